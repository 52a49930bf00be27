"""Writers and readers of one run at the same time: every reader sees one whole fit, and no set is lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from campaign.actions import Place, copied
from campaign.child import fork
from campaign.tally import Tally
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.runs import stored_run
from corrsteer_core.storage import checking, reading

WRITERS, READERS = 2, 4
REFUSED = "is being written by another process"
"""What the command line says of a run that another process writes."""
PAUSE = 0.1
"""Seconds between two writes: who waits asks twenty times a second, and would never have its turn between writes without any."""


def readers_and_writers(place: Place, seconds: float) -> Tally:
    """Two writers, four readers and backups, for so long; every look of a reader and every write is a trial."""
    tally = Tally("looks and writes of 4 readers and 2 writers of one run")
    shared = copied(place.template, place.folder / "shared")
    until = time.monotonic() + seconds
    children = []
    for nth in range(WRITERS + READERS):
        link = place.folder / f"process{nth}"  # each its own log
        link.unlink(missing_ok=True)
        link.symlink_to(shared)
        work = _writes if nth < WRITERS else _reads
        children.append(fork(lambda work=work, nth=nth, link=link: work(place, link, nth, until), link))  # type: ignore[misc]
    kept: set[str] = set()
    for nth, child in enumerate(children):
        ended = child.wait(seconds)
        found: dict[str, Any] = ended.result or {"done": 0, "wrong": [ended.problem or f"it ended with {ended.status}"]}
        kept |= set(found.get("sets", ()))
        tally.trials += found["done"]
        for one in found["wrong"]:
            tally.note(f"process {nth}", one)
    there = fork(lambda: sorted(stored_run.kept_sets(place.run)), shared).wait().result or []
    tally.note("the sets that were kept", f"lost: {sorted(kept - set(there))}" if kept - set(there) else "")
    return tally


def _writes(place: Place, cache: Path, nth: int, until: float) -> dict[str, Any]:
    """Fit with the one floor or the other, and keep sets."""
    done, sets = 0, []
    wrong: list[str] = []
    steering = stored_run.kept_sets(place.run)["S"]
    while time.monotonic() < until and len(wrong) < 5:
        name = f"set {nth} {done}"
        stored_run.keep_set(place.run, steering.with_rows(steering.rows, name), wait=120)
        sets.append(name)
        if nth == 0:
            wrong += _refitted(place.run, 1 + done % 2 * 5)
        done += 1
        time.sleep(PAUSE)
    return {"done": done, "wrong": wrong, "sets": sets}


def _refitted(run: str, floor: int) -> list[str]:
    """What is wrong with a fit: nothing where it ends well, or is refused because the other one writes."""
    errors: list[BaseException] = []
    status = main.main(["refit", run, "--floor", str(floor), "--permutations", "19", "--quiet"], errors.append)
    if status == 0 or any(isinstance(one, CorrSteerError) and REFUSED in str(one) for one in errors):
        return []
    return [f"refit ended with {status}: {''.join(map(repr, errors))}"]


def _reads(place: Place, cache: Path, nth: int, until: float) -> dict[str, Any]:
    """Every look sees the ranked features of the floor that stands beside them."""
    done = 0
    wrong: list[str] = []
    while time.monotonic() < until and len(wrong) < 5:
        with reading.Reader(place.run) as opened:
            floor = opened.query("SELECT floor FROM fits")["floor"].item()
            least = opened.query("SELECT min(support) AS least FROM features WHERE p IS NOT NULL")["least"].item()
            out = opened.query(
                "SELECT count(*) AS n FROM features WHERE p IS NULL AND support >= ? AND r IS NOT NULL", [floor]
            )
        if least < floor or out["n"].item():
            wrong.append(f"p of another fit: floor {floor}, least support {least}, without p {out['n'].item()}")
        if nth == WRITERS and done % 10 == 0:
            checking.backup(place.run, cache.with_name(f"copy{nth}.duckdb"), replace=True)
        done += 1
    return {"done": done, "wrong": wrong}
