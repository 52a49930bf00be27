"""What holds of the code as a whole: the direction of imports, and docs that say what the code says."""

import ast
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from corrsteer_core.schema import MIGRATIONS

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "corrsteer_core").rglob("*.py"))
APP = sorted((ROOT / "app").rglob("*.py"))

# From the bottom up: a module may import those before it, at the top of the file, never those after.
LAYERS = [
    {"errors", "paths", "hub_errors", "rounded", "differences", "output", "linear"},
    {"hooks", "schema", "progress", "stats", "texts", "tasks", "jobs", "uploads", "registry", "presets"},
    {"models", "correlation", "sae_sources"},
    {"statistics"},
    {"prompts", "saes", "training"},
    {"generation", "capture", "steering", "check", "lens"},
    {"config", "batches", "controls", "selection", "export"},
    {"store", "evaluate", "lengths", "shading", "tokens"},
    {"fit", "reader", "descriptions", "playground", "verdict", "findings", "comparisons", "pictures"},
    {"report"},
    {"pipeline", "evidence"},
    {"evaluation", "caa", "portrait"},
    {"demo", "study"},
    {"commands"},
    {"options"},
    {"cli"},
    {"__main__", "job_process"},
]
RANK = {name: place for place, names in enumerate(LAYERS) for name in names}


def imported(path, top_level_only=False):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def owner(path):
    """The module, or the folder of a package, that a file is."""
    return path.stem if path.parent.name == "corrsteer_core" else path.parent.name


def core_module(name):
    parts = name.split(".")
    return parts[1] if parts[0] == "corrsteer_core" and len(parts) > 1 else None


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_knows_neither_the_app_nor_streamlit(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"streamlit", "app", "plotly"}


def test_imports_in_the_core_go_one_way():
    modules = {owner(path) for path in CORE} - {"__init__"}
    assert modules == RANK.keys(), "every module has its place in LAYERS"
    wrong = []
    for path in CORE:
        own = owner(path)
        for name in imported(path):
            other = core_module(name)
            if other in RANK and own in RANK and other != own and RANK[other] > RANK[own]:
                wrong.append(f"{own} imports {other}")
    assert wrong == []


def test_the_map_for_contributors_has_every_module_in_the_order_of_imports():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)/?`", row)]
    assert sorted(named) == sorted(RANK), "every module stands in the table once"
    wrong = [f"{after} stands below {name}" for name, after in pairwise(named) if RANK[after] < RANK[name]]
    assert wrong == []


@pytest.mark.parametrize("path", APP, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_app_holds_no_sql_and_no_pickle(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bSELECT\b.*\bFROM\b", text)
    assert not {name.split(".")[0] for name in imported(path)} & {"duckdb", "pickle", "scipy"}


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_and_no_remote_code(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"pickle", "joblib", "dill"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword):
            assert not (node.arg == "trust_remote_code" and getattr(node.value, "value", True) is not False)
        if isinstance(node, ast.Call) and re.match(r"Auto\w+\.from_pretrained$", ast.unparse(node.func)):
            # Left out, transformers asks at the keyboard whether to run the code that comes with a model.
            assert any(keyword.arg == "trust_remote_code" for keyword in node.keywords), ast.unparse(node)


@pytest.mark.parametrize(
    "module",
    [
        "corrsteer_core.reader",
        "corrsteer_core.cli",
        "corrsteer_core.jobs",
        "corrsteer_core.registry",
        "app.main",
        "app.views.overview",
        "app.views.features",
        "benchmarks.results",
    ],
)
def test_what_shows_the_first_page_loads_no_model_library(module):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"import {module}\n"
        "heavy = {'torch', 'transformers', 'sae_lens'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_schema_page_names_every_table_and_column():
    page = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8")
    for table in re.finditer(r"CREATE TABLE (\w+) \((.*?)\n    \);", "".join(MIGRATIONS), re.DOTALL):
        assert f"## {table[1]}" in page
        section = page.split(f"## {table[1]}\n")[1].split("\n## ")[0]
        columns = re.findall(r"^        (\w+) [A-Z]", table[2], re.MULTILINE)
        assert columns
        for column in columns:
            assert f"| `{column}` |" in section, f"{table[1]}.{column} is not described"
    for table, column in re.findall(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", "".join(MIGRATIONS)):
        assert f"| `{column}` |" in page.split(f"## {table}\n")[1].split("\n## ")[0], (
            f"{table}.{column} is not described"
        )
