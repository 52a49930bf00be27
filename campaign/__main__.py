"""`python -m campaign`: kill, fail, damage and call everything there is, and say how often it mattered."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from campaign.tally import Bounds, Tally, table

MINUTES = {"full": 20.0, "quick": 2.0}
SHARES = {
    "kills": 0.12,
    "kills-at": 0.13,
    "faults": 0.13,
    "full-files": 0.07,
    "power-cuts": 0.05,
    "database-cuts": 0.07,
    "low-memory": 0.04,
    "damage": 0.08,
    "fuzz": 0.05,
    "links": 0.08,
    "together": 0.04,
    "sessions": 0.04,
    "browsers": 0.03,
    "workers": 0.04,
    "hosts": 0.03,
}
"""Of the time, by kind; a kind that is done sooner leaves the rest unused."""
MOST = 1000
"""Trials of a kind, and twice as many calls."""


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m campaign", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes instead of twenty")
    parser.add_argument("--minutes", type=float, help="so long instead")
    parser.add_argument("--trials", type=int, default=MOST, help="at most so many of a kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=SHARES, help="these kinds only")
    options = parser.parse_args(arguments)
    minutes = options.minutes or MINUTES["quick" if options.quick else "full"]
    print(f"seed {options.seed}, {minutes:g} minutes, at most {options.trials} trials of a kind", flush=True)
    began, tallies = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="corrsteer-campaign-") as folder:
        for tally in _tallies(Path(folder), options, 60 * minutes):
            tallies.append(tally)
            print(f"{tally.kind}: {tally.trials:,} trials, {len(tally.failures)} failures", flush=True)
    print(f"\n{table(tallies)}\n\n{(time.monotonic() - began) / 60:.0f} minutes", flush=True)
    return 1 if any(tally.failures for tally in tallies) else 0


def _tallies(folder: Path, options: argparse.Namespace, seconds: float) -> Iterator[Tally]:
    from campaign import (
        browsers,
        damage,
        database_cuts,
        dead_workers,
        fuzz,
        hosts,
        interruptions,
        links,
        low_memory,
        power_cut,
        sessions,
        together,
    )
    from campaign.actions import prepared

    place = prepared(folder)
    known = interruptions.Known(place)
    kinds: dict[str, Callable[[Bounds], Tally]] = {
        "kills": partial(interruptions.kills_at_moments, place, known, options.seed),
        "kills-at": partial(interruptions.kills_at_operations, place, known, options.seed),
        "faults": partial(interruptions.faults, place, known, options.seed),
        "full-files": partial(interruptions.full_files, place, known, options.seed),
        "power-cuts": partial(power_cut.power_cuts, place, known, options.seed),
        "database-cuts": partial(database_cuts.database_cuts, place, known, options.seed),
        "low-memory": partial(low_memory.low_memory, place, known, options.seed),
        "damage": partial(damage.damaged_files, place, options.seed),
        "fuzz": partial(fuzz.calls, place, options.seed),
        "links": lambda bounds: links.links(place, options.seed, Bounds(2 * bounds.trials, bounds.seconds)),
        "together": lambda bounds: together.readers_and_writers(place, bounds.seconds),
        "workers": partial(dead_workers.dead_workers, place, known, options.seed),
        "hosts": partial(hosts.hosts, place, known, options.seed),
        "sessions": lambda bounds: sessions.sessions(place, options.seed, bounds.seconds),
        "browsers": lambda bounds: browsers.browsers(place, options.seed, bounds.seconds),
    }
    for name in options.only or SHARES:
        yield kinds[name](Bounds(options.trials, SHARES[name] * seconds))


if __name__ == "__main__":
    sys.exit(main())
