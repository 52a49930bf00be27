"""Commands that get too little memory: they say so or end, and nothing is lost."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import psutil

from campaign.actions import Action, Place
from campaign.child import BROKEN, Ended, fork
from campaign.interruptions import Known, afterwards, in_turn
from campaign.tally import Bounds, Tally


def low_memory(place: Place, known: Known, seed: int, bounds: Bounds) -> Tally:
    """The address space may grow by so much and no more."""
    tally = Tally("commands with too little memory")
    rng = random.Random(seed)
    for nth, action in in_turn(place, bounds):
        room = rng.randrange(1, 300) * 2**20
        known.of(action)
        cache = known.cache(action)

        def limited(action: Action = action, cache: Path = cache, room: int = room) -> int:
            most = psutil.Process().memory_info().vms + room
            resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
            return action.run(cache)

        ended = fork(limited, cache).wait()
        what = f"{action.name}, {room // 2**20} MB (seed {seed}, trial {nth})"
        tally.note(what, _said(ended) or afterwards(place, known, action, cache))
    return tally


def _said(ended: Ended) -> str:
    """What is wrong with how it ended: it may go on, say that memory is short, or be ended by a library in want of it."""
    if ended.problem or ended.status == BROKEN:
        return ended.problem or ended.printed[-300:]
    if ended.status <= 0 or "memory" in ended.printed:
        return ""
    return f"that memory is short is not said: {ended.printed[-300:]}"
