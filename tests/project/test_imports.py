"""Help, the first page and every question to a run open without torch: asked of one process, step by step."""

import json
import subprocess
import sys

import pytest

from corrsteer_core.base.paths import PACKAGE
from tests.made.places import ROOT

MODELS = ("torch", "transformers", "sae_lens")
LIGHT_ROOMS = ("tasks", "base", "statistics", "correlation", "storage", "runs", "reporting")
"""The rooms that load no torch; tasks come first, as they load less than the others."""

STEPS = """
import contextlib, importlib, io, json, sys

def loaded(step, names):
    print(json.dumps([step, [name for name in names if name in sys.modules]]), flush=True)

def said(words):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return main(words)
        except SystemExit as end:
            return end.code

models, modules = json.loads(sys.argv[1])
importlib.import_module("corrsteer_core.tasks")
loaded("tasks", [*models, "streamlit", "datasets"])
for module in modules:
    importlib.import_module(module)
    loaded(module, models)
from corrsteer_core.cli.main import main
from corrsteer_core.cli.table import COMMANDS
for words in (["--help"], *([name, "--help"] for name in COMMANDS), ["saes", "gpt2", "--json"]):
    status = said(words)
    loaded(" ".join(words), models)
    assert status == 0, words
"""


def light_modules() -> list[str]:
    """All modules of the rooms without torch, and what starts: the command line, the first pages, the results."""
    found = []
    for room in LIGHT_ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
            found.append(name.removesuffix(".__init__"))
    more = ("cli.main", "saes.registry", "api.study")
    apps = ("app.main", "app.overview.page", "app.start.page", "app.features.page", "benchmarks.results")
    return [*found, *(f"corrsteer_core.{name}" for name in more), *apps]


@pytest.fixture(scope="module")
def steps() -> dict[str, list[str]]:
    """By step, in the order in which they were done: which of the libraries it should not load were there after it."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS, json.dumps([MODELS, light_modules()])],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


def first_with_any(steps: dict[str, list[str]], names: list[str]) -> tuple[str, list[str]] | None:
    """The step that loaded something, and what; None if none did."""
    return next(((name, steps[name]) for name in names if steps[name]), None)


def test_tasks_load_neither_torch_nor_streamlit(steps):
    assert steps["tasks"] == []


def test_rooms_without_torch_and_what_shows_the_first_page_load_no_model_library(steps):
    names = light_modules()
    assert {"corrsteer_core.runs.run_facts", "corrsteer_core.reporting.report", "corrsteer_core.base.jobs"} < {*names}
    assert first_with_any(steps, names) is None


def test_help_of_every_command_and_a_list_of_saes_load_no_model_library(steps):
    from corrsteer_core.cli.table import COMMANDS

    asked = ["--help", *(f"{name} --help" for name in COMMANDS), "saes gpt2 --json"]
    assert first_with_any(steps, asked) is None
