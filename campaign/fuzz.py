"""Every command, called with nonsense: it does its work or says in a sentence why not."""

from __future__ import annotations

import io
import random
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from campaign.actions import Place, copied
from campaign.child import fork
from campaign.tally import Bounds, Tally
from corrsteer_core.cli import main
from corrsteer_core.cli.table import COMMANDS

LEFT_OUT = ("app", "setup", "demo", "train-sae", "saes")
"""They start a server, take minutes, or read a registry of a hundred thousand lines."""
WITH_MODEL = ("fit", "study", "check")
TOGETHER = 10
"""Calls in one process."""


def calls(place: Place, seed: int, bounds: Bounds) -> Tally:
    """Calls of every command, some of them right."""
    tally = Tally("calls with nonsense")
    rng = random.Random(seed)
    names = [name for name in COMMANDS if name not in LEFT_OUT]
    for nth in bounds.numbers():
        cache = copied(place.template, place.folder / "trial")
        some = [_words(rng, names[(nth * TOGETHER + one) % len(names)], place, str(cache)) for one in range(TOGETHER)]
        ended = fork(lambda some=some: [_called(words) for words in some], cache).wait()  # type: ignore[misc]
        for words, problem in zip(some, ended.result or [ended.printed[-300:] or "it died"] * TOGETHER, strict=True):
            tally.note(f"{words} (seed {seed}, trial {nth})", problem)
    return tally


def _called(words: list[str]) -> str:
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status: Any = main.main(words)
    except SystemExit as error:
        status = error.code
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if status not in (0, 1, 2):
        return f"it ended with {status}"
    if status and not err.getvalue().strip():
        return "it failed without a word"
    return ""


def _words(rng: random.Random, name: str, place: Place, cache: str) -> list[str]:
    values = [
        "", "-1", "0", "1", "2", "1e309", "nan", "\0", "\u202e", "x" * 300, "../..", "/", ".", "S", "V", "P", "sentiment",
        "json", "python", "exact", "1,2", "9999999999999999999", place.run, f"{cache}/S.json", f"{cache}/new.html",
        f"{cache}/new.json", f"{cache}/new.duckdb", "/dev/full", "--",
    ]  # fmt: skip
    options = [
        "--top", "--layer", "--strategy", "--out", "--set", "--format", "--task", "--data", "--scorer", "--split", "--scale",
        "--scales", "--limit", "--floor", "--permutations", "--ranking", "--force", "--json", "--repair", "--intervals",
        "--per-layer", "--negative", "--prompt", "--max-new-tokens", "--seed", "--pooling", "--layers",
    ]  # fmt: skip
    words = [name]
    if rng.random() < 0.7:
        words.append(rng.choice([place.run, f"{cache}/S.json", rng.choice(values)]))
    for _ in range(rng.randrange(4)):
        words += [rng.choice(options), *([rng.choice(values)] if rng.random() < 0.8 else [])]
    if name in WITH_MODEL:  # the model that comes with the tool is larger than a campaign has time for
        words += ["--model", str(place.model), "--limit", "6", "--max-new-tokens", "1"][: 2 if name == "check" else 6]
    return [*words, "--quiet"]
