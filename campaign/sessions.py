"""Ten browser sessions at once, as their websockets say it: every page is drawn to its end, and the server stays as large as it was."""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing

import psutil

from campaign.actions import Place, copied
from campaign.served import PAGES, connected, drawn, server
from campaign.tally import Tally

SESSIONS = 10
GROWTH = 300 * 2**20
"""Bytes by which a server may be larger at the end than when every session had seen every page."""


def sessions(place: Place, seed: int, seconds: float) -> Tally:
    """Every page that one of ten sessions draws is a trial."""
    tally = Tally(f"pages drawn in {SESSIONS} sessions at once")
    cache = copied(place.template, place.folder / "served")
    with server(cache) as (port, process):
        until = time.monotonic() + seconds
        done: list[tuple[str, str]] = []
        sizes: list[int] = []
        threads = [
            threading.Thread(target=_visit, args=(port, place.run, random.Random(seed + nth), until, done))
            for nth in range(SESSIONS)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.5)
            if process.poll() is None and len(done) >= SESSIONS * len(PAGES):
                sizes.append(psutil.Process(process.pid).memory_info().rss)
        for what, problem in done:
            tally.note(what, problem)
        tally.note("the server", "" if process.poll() is None else f"it ended with {process.returncode}")
        if sizes:
            grown = sizes[-1] - sizes[0]
            tally.note("its memory", f"it grew by {grown:,} bytes" if grown > GROWTH else "")
    return tally


def _visit(port: int, run: str, rng: random.Random, until: float, done: list[tuple[str, str]]) -> None:
    """One session: pages in a random order, each drawn to its end; a reload, a new connection, now and then."""
    while time.monotonic() < until:
        try:
            with closing(connected(port)) as connection:
                for page in rng.sample(PAGES, len(PAGES)):
                    done.append((f"page {page}", drawn(connection, page, f"run={run}")))
        except Exception as error:  # whatever it is, it is what a browser would have met
            done.append(("a session", f"{type(error).__name__}: {error}"))
            return
