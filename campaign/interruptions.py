"""Commands that are killed, or whose disk fails: nothing is lost, nothing doubled, and the same command again finishes."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from campaign.actions import Action, Place, actions, content, copied, hashed, problems_of_cache
from campaign.bad_disk import KILL, SHORT, BadDisk
from campaign.child import BROKEN, Ended, fork
from campaign.tally import Bounds, Tally
from corrsteer_core.base import files

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
FAILURES: tuple[tuple[int | str, bool], ...] = (
    (errno.ENOSPC, True),
    (errno.ENOSPC, False),
    (errno.EIO, False),
    (SHORT, False),
)


class Known:
    """What each action does when nothing happens to it: its result, its time, its file operations."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._kept: dict[str, dict[str, Any]] = {}

    def of(self, action: Action) -> dict[str, Any]:
        """Measured once."""
        if action.name not in self._kept:
            cache, disk = self.cache(action), BadDisk()
            ended = fork(lambda: {"status": action.run(cache), "operations": disk.done}, cache, disk).wait()
            if ended.status or ended.result["status"]:
                raise RuntimeError(f"{action.name} fails on its own: {ended.printed[-1000:]}")
            after = fork(lambda: content(cache, action.outputs, self.place.run), cache).wait()
            self._kept[action.name] = {**ended.result, "seconds": ended.seconds, "content": after.result}
        return self._kept[action.name]

    def cache(self, action: Action) -> Path:
        """A fresh copy of the cache that the action starts from."""
        return copied(self.place.empty if action.from_empty else self.place.template, self.place.folder / "trial")


def kills_at_moments(place: Place, known: Known, seed: int, bounds: Bounds) -> Tally:
    """A signal at a random moment."""
    tally = Tally("processes ended at a random moment (KILL, TERM, INT)")
    rng = random.Random(seed)
    for nth, action in in_turn(place, bounds):
        number, moment = SIGNALS[nth % len(SIGNALS)], rng.random() * known.of(action)["seconds"]
        cache = known.cache(action)
        child = fork(lambda action=action, cache=cache: action.run(cache), cache)  # type: ignore[misc]
        time.sleep(moment)
        os.kill(child.pid, number)
        ended = child.wait()
        fine = ended.status in (0, 130, -signal.SIGKILL, -signal.SIGTERM)
        problem = ended.problem or ("" if fine else f"it ended with {ended.status}: {ended.printed[-300:]}")
        what = f"{action.name}, signal {number} after {moment:.2f} s (seed {seed}, trial {nth})"
        tally.note(what, problem or afterwards(place, known, action, cache))
    return tally


def kills_at_operations(place: Place, known: Known, seed: int, bounds: Bounds) -> Tally:
    """kill -9 at the n-th operation on files."""
    tally = Tally("processes killed at a file operation")
    for nth, action, at in _at_operations(place, known, bounds, seed):
        cache = known.cache(action)
        disk = BadDisk(at, KILL)
        ended = fork(lambda action=action, cache=cache: action.run(cache), cache, disk).wait()  # type: ignore[misc]
        problem = "" if ended.status in (0, -signal.SIGKILL) else f"it ended with {ended.status}"
        what = f"{action.name}, operation {at} (seed {seed}, trial {nth})"
        tally.note(what, problem or afterwards(place, known, action, cache))
    return tally


def faults(place: Place, known: Known, seed: int, bounds: Bounds) -> Tally:
    """The n-th operation on files fails: no room, an I/O error, half a write."""
    tally = Tally("file operations that fail (ENOSPC, EIO, short write)")
    for nth, action, at in _at_operations(place, known, bounds, seed):
        what, stays = FAILURES[nth % len(FAILURES)]
        cache = known.cache(action)
        disk = BadDisk(at, what, stays)
        ended = fork(lambda action=action, cache=cache: action.run(cache), cache, disk).wait()  # type: ignore[misc]
        code = what if isinstance(what, int) else errno.EIO
        problem = _said(ended, os.strerror(code))
        name = f"{action.name}, {os.strerror(code)} at operation {at} (seed {seed}, trial {nth})"
        tally.note(name, problem or afterwards(place, known, action, cache))
    return tally


def full_files(place: Place, known: Known, seed: int, bounds: Bounds) -> Tally:
    """What DuckDB and safetensors write fails: no file may grow beyond a random size."""
    tally = Tally("writes of other libraries that fail (DuckDB, safetensors)")
    rng = random.Random(seed)
    chosen = [one for one in actions(place) if one.name in ("fit", "refit", "select", "try", "describe", "unpack")]
    for nth in bounds.numbers():
        action = chosen[nth % len(chosen)]
        limit = rng.randrange(20_000, 2_500_000)
        cache = known.cache(action)

        def limited(action: Action = action, cache: Path = cache, limit: int = limit) -> int:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            return action.run(cache)

        ended = fork(limited, cache).wait()
        what = f"{action.name}, files of at most {limit:,} bytes (seed {seed}, trial {nth})"
        tally.note(what, _said(ended, os.strerror(errno.EFBIG)) or afterwards(place, known, action, cache))
    return tally


def _said(ended: Ended, cause: str) -> str:
    """What is wrong with how a command ended whose disk failed: it may go on, or say the cause in a sentence."""
    if ended.problem:
        return ended.problem
    if ended.status == 0:
        return ""
    if ended.status == BROKEN:
        return ended.printed[-300:]
    return "" if cause in ended.printed else f"the cause ({cause}) is not said: {ended.printed[-300:]}"


def in_turn(place: Place, bounds: Bounds) -> Iterator[tuple[int, Action]]:
    every = actions(place)
    for nth in bounds.numbers():
        yield nth, every[nth % len(every)]


def _at_operations(place: Place, known: Known, bounds: Bounds, seed: int) -> Iterator[tuple[int, Action, int]]:
    """Every operation of every action, in a random order; from the start again when there are more trials."""
    pairs = [(action, at) for action in actions(place) for at in range(1, known.of(action)["operations"] + 1)]
    random.Random(seed).shuffle(pairs)
    for nth in bounds.numbers():
        yield nth, *pairs[nth % len(pairs)]


def afterwards(place: Place, known: Known, action: Action, cache: Path, aside: list[str] | None = None) -> str:
    """What is wrong after a command did not end well: what is there is whole, and the same command again finishes.

    Private copies that were damaged and put aside are taken note of in `aside`; without it they are wrong.
    """
    expected = known.of(action)["content"]
    source = place.empty if action.from_empty else place.template
    whole = {name: (hashed(source / name), expected["files"].get(name)) for name in action.outputs}

    def again() -> dict[str, Any]:
        broken = problems_of_cache()
        broken = [one for one in broken if "never published" not in one]
        torn = [name for name in action.outputs if name != "b.duckdb" and hashed(cache / name) not in whole[name]]
        status = action.run(cache)
        every = [cache, *(path for path in cache.rglob("*") if path.is_dir())]
        left = [str(path) for folder in every for path in files.leftovers(folder)]
        aside = [str(path) for path in cache.rglob("*.damaged-*")]
        found = content(cache, action.outputs, place.run)
        return {"broken": broken + torn, "status": status, "left": left, "aside": aside, "content": found}

    ended = fork(again, cache).wait()
    if ended.problem or ended.result is None:
        return ended.problem or f"the same command again ended with {ended.status}: {ended.printed[-300:]}"
    found = ended.result
    if aside is not None:
        aside += found["aside"]
    if found["broken"] or found["status"] or (found["aside"] and aside is None):
        return f"not whole: {found['broken']} {found['aside']}, again: {found['status']} {ended.printed[-300:]}"
    if found["left"]:
        return f"left over: {found['left']}"
    differ = [name for name in expected if found["content"].get(name) != expected[name]]
    return f"differs from an undisturbed one in {differ}" if differ else ""
