"""What README.md and docs/ tell readers to type is what the command line takes, and their lists are the code's."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from corrsteer_core.base.paths import EMBEDDED_SAES
from corrsteer_core.cli import choices, main
from corrsteer_core.engine.export_formats import FORMATS
from corrsteer_core.runs.strategies import LONGEST, PER_LAYER
from corrsteer_core.saes.presets import PRESETS
from corrsteer_core.saes.train_config import TrainConfig
from corrsteer_core.tasks import JUDGES, SCORERS, TASKS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
(COMMANDS,) = (action.choices for action in main.parser()._actions if action.dest == "name")
SHELL = {"|", ">", ">>", "&&", ";", "done", "fi"}
"""What ends a command in a line of shell."""


def lines_of(text: str) -> Iterator[str]:
    """The lines of a page's sh blocks, those that go on on the next one joined."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


def typed(text: str) -> Iterator[list[str]]:
    """Every command of a page as words, without what calls it: of its sh blocks, and `select RUN --strategy V` of its prose."""
    for line in [*lines_of(text), *re.findall(r"`([^`\n]+)`", text)]:
        if "-m corrsteer_core " in line:
            words = shlex.split(line.split("-m corrsteer_core ")[1], comments=True)
            yield words[: next((place for place, word in enumerate(words) if word in SHELL), None)]
        elif re.match(rf"({'|'.join(COMMANDS)}) ", line):
            yield shlex.split(line)


def part(pattern: str) -> str:
    """A stretch of the README."""
    found = re.search(pattern, README, re.DOTALL)
    assert found, f"the README has no {pattern!r}"
    return found[1]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([\w.-]+)`", text)


TYPED = [(path, words) for path in PAGES for words in typed(path.read_text(encoding="utf-8"))]


def test_commands_are_found():
    found = {(path.name, words[0]) for path, words in TYPED}
    assert {
        ("README.md", "fit"), ("README.md", "train-sae"), ("README.md", "convergence"), ("reproduce.md", "study"),
        ("reproduce.md", "transfer"), ("exports.md", "export"), ("results.md", "study"),
    } <= found  # fmt: skip


@pytest.mark.parametrize(("path", "words"), TYPED, ids=lambda one: one.name if isinstance(one, Path) else " ".join(one))
def test_what_readers_are_told_to_type_is_taken(path, words, capsys):
    try:
        asked = vars(main.parser().parse_args(words))
    except SystemExit:
        pytest.fail(f"{path.name} has {' '.join(words)!r}: {capsys.readouterr().err.splitlines()[-1]}")
    for name, known in (("task", TASKS), ("preset", PRESETS), ("scorer", [*SCORERS, *JUDGES]), ("judge", JUDGES)):
        values = asked.get(name) or []
        for value in [values] if isinstance(values, str) else values:
            assert value in known or value.startswith("$") or value.isupper(), (
                f"{path.name}: there is no {name} {value}"
            )


def test_the_options_that_readers_are_told_of_are_there():
    known = {option for command in COMMANDS.values() for option in command._option_string_actions}
    assert set(re.findall(r"`(--[a-z-]+)", README)) <= known


def test_the_readme_lists_what_there_is():
    assert set(quoted(part(r"`--preset` takes one of (.*?); "))) == set(PRESETS)
    assert set(re.split(r",\s+", part(r"With `--scorer NAME` \((.*?)\)"))) == set(SCORERS)
    hub = quoted(part(r"The benchmarks (.*?) load\s+from\s+the hub"))
    assert set(hub) == {name for name, task in TASKS.items() if task.hub}
    assert {"difference_of_means", *quoted(part(r"`--ranking difference_of_means`(.*?);"))} == set(
        choices.rankings()[1:]
    )
    formats = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
    assert set(quoted(re.search(r"Formats: (.*?)\.", formats)[1])) == set(FORMATS)


def test_the_readme_has_the_defaults_of_the_code():
    assert (
        int(part(r"V tries no vector longer than (\d+)% of the activation it is added to \(`--longest`"))
        == 100 * LONGEST
    )
    assert int(part(r"\*\*V\*\* steers the (\d+) best of each layer alone")) == PER_LAYER
    trained = TrainConfig(layers=(8,))
    layers = len(list(EMBEDDED_SAES.glob("layer_*")))
    assert part(r"its SAEs are too: (.*?) of text") == (
        f"{trained.d_sae:,} features for each of {layers} layers, {trained.tokens / 1e6:g} M tokens"
    )
