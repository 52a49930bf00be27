"""Power cuts in what DuckDB writes itself: a command is halted at two moments, and the disk is one that has part of the second.

A process that is halted (SIGSTOP) leaves its files as they are at one moment. Between two such moments DuckDB has written
pages and lines of its log; a cut may lose any of them that were not flushed. DuckDB flushes its pages before it writes the
header that points to them, and its log when a change is done: so, as long as the header is the same at both moments, every page
that differs may be the old one or the new one, and of what was added to the log any part may be missing. Not covered: whether
DuckDB does flush what it says (that would need a watch on its calls of the system), and headers and logs of two moments.

DuckDB writes a block of its metadata (256 KB, with one checksum) over the old one before it writes the header, so a cut
may damage the private copy. That is allowed: it is put aside, and the work goes on from what was published, which never is
damaged.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from campaign.actions import Place, actions
from campaign.child import Child, fork
from campaign.interruptions import Known, afterwards
from campaign.tally import Bounds, Tally
from corrsteer_core.storage.database import LOG, PRIVATE

DATABASE = ("fit", "refit", "select", "try", "evaluate", "describe")
"""Commands that write to a run."""
CUTS = 4
"""Of one command."""
PAGE = 4096
HEADERS = 3 * PAGE
"""Bytes with which a DuckDB file begins: what it is, and two headers, of which the newer one counts."""
LONGEST_BETWEEN = 0.01  # seconds from one moment to the next

Held = dict[str, bytes]
"""Files of a cache and what they hold."""


def database_cuts(place: Place, known: Known, seed: int, bounds: Bounds) -> Tally:
    """Every command in turn, halted again and again; after each cut the same command must go on and finish."""
    tally = Tally("power cuts in what DuckDB writes")
    rng, aside = random.Random(seed), list[str]()
    chosen = [one for one in actions(place) if one.name in DATABASE]
    for nth in bounds.numbers():
        action = chosen[nth % len(chosen)]
        known.of(action)
        cache = known.cache(action)
        child = fork(lambda action=action, cache=cache: action.run(cache), cache)  # type: ignore[misc]
        cuts = _cuts(child, cache, rng)
        ended = child.wait()
        tally.note(f"{action.name}, halted", ended.problem or ("" if ended.status == 0 else ended.printed[-300:]))
        for which, first, then in cuts:
            cut = place.folder / "cut"
            _write(cut, after_cut(first, then, rng))
            what = f"{action.name}, cut in change {which} (seed {seed}, trial {nth})"
            tally.note(what, afterwards(place, known, action, cut, aside))
    damaged = sum(name.endswith(PRIVATE.partition(".")[2]) for name in aside)
    print(f"  {damaged} of them damaged a private copy, which was put aside", flush=True)
    return tally


def _cuts(child: Child, cache: Path, rng: random.Random) -> list[tuple[int, Held, Held]]:
    """(which, files, files a little later): some of the changes that were seen while a command ran, by lot."""
    kept: list[tuple[int, Held, Held]] = []
    seen, first = 0, _halted(child.pid, cache)
    while first is not None:
        time.sleep(rng.random() * LONGEST_BETWEEN)
        then = _halted(child.pid, cache)
        if then is None:
            break
        if _database(first) != _database(then):
            seen += 1
            if len(kept) < CUTS:
                kept.append((seen, first, then))
            elif (place := rng.randrange(seen)) < CUTS:
                kept[place] = (seen, first, then)
        first = then
    return kept


def _database(held: Held) -> Held:
    """What DuckDB itself wrote of it."""
    return {name: content for name, content in held.items() if Path(name).name in (PRIVATE, PRIVATE + LOG)}


def _halted(pid: int, cache: Path) -> Held | None:
    """What a cache holds while its process is halted, which then goes on; None where it has ended."""
    try:
        os.kill(pid, signal.SIGSTOP)
        found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if found is None or found.si_code != os.CLD_STOPPED:
            return None
        held = {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    finally:
        os.kill(pid, signal.SIGCONT)
    return held


def after_cut(first: Held, then: Held, rng: random.Random) -> Held:
    """What a disk may hold when the power goes between two moments that are close to each other."""
    held = dict(then)
    for name in then:
        log = name + LOG
        if Path(name).name != PRIVATE or name not in first or first[name][:HEADERS] != then[name][:HEADERS]:
            continue
        held[name] = _mixed(first[name], then[name], rng)
        old, new = first.get(log, b""), then.get(log, b"")
        if new.startswith(old) and new != old:
            held[log] = new[: rng.randint(len(old), len(new))]
    return held


def _mixed(old: bytes, new: bytes, rng: random.Random) -> bytes:
    """Pages of which any that was written since may be the old one; what the file has grown by may be missing."""
    pages = [
        old[at : at + PAGE] if rng.random() < 0.5 and at < len(old) else new[at : at + PAGE]
        for at in range(0, len(new), PAGE)
    ]
    whole = b"".join(pages)
    return whole[: rng.randint(len(old), len(whole))] if len(whole) > len(old) else whole


def _write(folder: Path, held: Held) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in held.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
