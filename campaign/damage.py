"""Damaged files of every kind: each command says so in a sentence, and whatever else there is goes on."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign.actions import UPLOAD, Place, content, copied
from campaign.child import fork
from campaign.tally import Bounds, Tally
from corrsteer_core.base import jobs, uploads
from corrsteer_core.cli import main
from corrsteer_core.runs import run_facts

OTHER = "untouched"
JOB = "20260101-000000-abcdef"


def damaged_files(place: Place, seed: int, bounds: Bounds) -> Tally:
    """Bit flips, torn pages and cut ends."""
    tally = Tally("damaged files (flipped bits, torn pages, cut ends)")
    rng = random.Random(seed)
    kinds = _kinds(place)
    for nth in bounds.numbers():
        name = sorted(kinds)[nth % len(kinds)]
        cache = copied(place.template, place.folder / "trial")
        path = kinds[name](cache)
        path.write_bytes(_damaged(path.read_bytes(), rng))
        ended = fork(lambda cache=cache: _inspected(place, cache), cache).wait()  # type: ignore[misc]
        problem = ended.problem or ("" if ended.result else f"it ended with {ended.status}: {ended.printed[-300:]}")
        if not problem and ended.result["wrong"]:
            problem = str(ended.result["wrong"])
        tally.note(f"{name} (seed {seed}, trial {nth})", problem)
    return tally


def _damaged(whole: bytes, rng: random.Random) -> bytes:
    content = bytearray(whole)
    at = rng.randrange(len(content))
    match rng.randrange(3):
        case 0:
            content[at] ^= 1 << rng.randrange(8)
        case 1:
            start = at - at % 4096
            content[start : start + 4096] = bytes(len(content[start : start + 4096]))
        case _:
            del content[at:]
    return bytes(content)


def _kinds(place: Place) -> dict[str, Callable[[Path], Path]]:
    """How each kind of file comes to be in a cache; returns the file."""

    def private(cache: Path) -> Path:
        folder = cache / "runs" / place.run
        return Path(shutil.copy(folder / "run.duckdb", folder / "writing.duckdb"))

    def job(name: str) -> Callable[[Path], Path]:
        def made(cache: Path) -> Path:
            folder = cache / "jobs" / JOB
            folder.mkdir(parents=True)
            about = {"id": JOB, "title": "old", "arguments": ["fit"], "started": "2026-01-01T00:00:00+00:00"}
            (folder / "job.json").write_text(json.dumps(about))
            (folder / "process.json").write_text(json.dumps({"pid": 1, "created": 5.0}))
            (folder / "progress.json").write_text(json.dumps({"stage": "x", "share": 0.5, "left": 3.0}))
            (folder / "exit").write_text(json.dumps({"status": 1}))
            (folder / "log").write_text("error: x\n")
            return folder / name

        return made

    def upload(cache: Path) -> Path:
        path = cache / "uploads" / "abc" / "mine.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(UPLOAD)
        return path

    found: dict[str, Callable[[Path], Path]] = {
        "run.duckdb": lambda cache: cache / "runs" / place.run / "run.duckdb",
        "writing.duckdb": private,
        "a set": lambda cache: cache / "S.json",
        "an upload": upload,
    }
    return found | {name: job(name) for name in ("job.json", "process.json", "progress.json", "exit", "log")}


def _inspected(place: Place, cache: Path) -> dict[str, Any]:
    """What goes wrong when everything in a cache is looked at and worked with."""
    whole = cache / "runs" / OTHER
    shutil.copytree(place.template / "runs" / place.run, whole)
    before = content(cache, (), OTHER)
    run, wrong = place.run, []
    for words in (
        ["runs"], ["features", run], ["effects", run], ["check-cache"], ["report", run, "--out", str(cache / "n.html")],
        ["export", "--set", str(cache / "S.json"), "--format", "json", "--out", str(cache / "n.json")],
        ["refit", run, "--floor", "1", "--permutations", "19"], ["check-cache", "--repair"],
    ):  # fmt: skip
        status = main.main([*words, "--quiet"])
        if status not in (0, 1) or (words == ["runs"] and status):
            wrong.append(f"{words[0]} ended with {status}")
    run_facts.demo_run()
    for job in jobs.jobs():
        jobs.cancel(job.id)
        jobs.forget(job.id)
    uploads.keep_upload("mine.jsonl", UPLOAD)
    if content(cache, (), OTHER) | {"uploads": 0} != before | {"uploads": 0}:
        wrong.append("the other run has changed")
    return {"wrong": wrong}
