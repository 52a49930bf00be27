"""Jobs one after the other: each takes all cores and a model's memory, so a second beside it makes both slow.

A job's process is there from the start, small, and waits until the jobs that were started before it have ended; its
place is in the order of their starts, so no two wait for each other.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from corrsteer_core.base import jobs
from corrsteer_core.base.files import write_text

AT_ONCE = "CORRSTEER_JOBS"
"""Environment variable with how many jobs may run at the same time; 1 without it."""
_LOOK = 0.5  # seconds


def at_once() -> int:
    """How many jobs may run at the same time."""
    asked = os.environ.get(AT_ONCE, "")
    return max(1, int(asked)) if asked.isdecimal() else 1


def before(id: str) -> list[jobs.Job]:
    """The jobs that run or wait and were started before this one, the oldest first."""
    found = jobs.jobs()
    place = next(((one.started, one.id) for one in found if one.id == id), None)
    if place is None:
        return []
    earlier = [one for one in found if one.state == "running" and (one.started, one.id) < place]
    return sorted(earlier, key=lambda one: (one.started, one.id))


def await_turn(folder: Path) -> None:
    """Return when it is this job's turn; until then its progress says whom it waits for."""
    said = ""
    while len(first := before(folder.name)) >= at_once():
        more = f" and {len(first) - 1} more" if len(first) > 1 else ""
        stage = f"waiting until “{first[0].title}”{more} {'have' if more else 'has'} ended"
        if stage != said:
            with suppress(OSError):  # without room for a note, it waits all the same
                write_text(folder / "progress.json", json.dumps({"stage": stage, "share": 0.0}), lasting=False)
            said = stage
        time.sleep(_LOOK)
