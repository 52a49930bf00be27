"""Workers, and the process that gives them work, are killed: every sample once, the same numbers, nobody left behind."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

from campaign.actions import Action, Place, shared_out
from campaign.interruptions import Known, afterwards
from campaign.tally import Bounds, Tally

WORKERS = 2
WORKER = "ray::Worker"
"""What their processes are called."""
LET_GO = 10.0
"""Seconds in which the workers of a killed process must be gone."""
RAY_ENDS = 120.0
"""Seconds in which the processes of Ray itself must be gone; two of them try for a minute to tell the dead ones of it."""
BETWEEN = (0.5, 4.0)
"""Seconds from one killed worker to the next."""
EACH = 5
"""Workers killed of one command at most, then it may finish."""
ALL_DONE = 600.0


def dead_workers(place: Place, known: Known, seed: int, bounds: Bounds) -> Tally:
    """Every other command is killed itself; of the rest workers die at random moments. A killed process is a trial."""
    tally = Tally("workers killed, and processes that give them work")
    if find_spec("ray") is None:
        tally.left_out = "Ray is not installed"
        return tally
    rng = random.Random(seed)
    chosen = shared_out(place)
    until, command = time.monotonic() + bounds.seconds, 0
    while tally.trials < bounds.trials and (not tally.trials or time.monotonic() < until):
        action = chosen[command // 2 % len(chosen)]
        cache = known.cache(action)
        process = _begun(action, cache)
        if command % 2:
            time.sleep(rng.uniform(2, 25))
            killed, problem = 1, _end(process)
        else:
            killed, problem = _kill_workers(process, rng, min(EACH, bounds.trials - tally.trials))
        problem = problem or afterwards(place, known, action, cache)
        for nth in range(max(1, killed)):
            tally.note(f"{action.name}, command {command} (seed {seed})", problem if nth == 0 else "")
        command += 1
    return tally


def _begun(action: Action, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "corrsteer_core", *action.words(cache), "--workers", str(WORKERS)],
        env={**os.environ, "CORRSTEER_CACHE": str(cache), "OMP_NUM_THREADS": str(WORKERS)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _kill_workers(process: subprocess.Popen[str], rng: random.Random, most: int) -> tuple[int, str]:
    """How many workers were killed, and what is wrong with how the command ended."""
    killed, until = 0, time.monotonic() + ALL_DONE
    while process.poll() is None and killed < most and time.monotonic() < until:
        time.sleep(rng.uniform(*BETWEEN))
        found = list(_workers(process.pid))
        if found:
            with suppress(psutil.Error):
                rng.choice(found).kill()
                killed += 1
    try:
        printed, _ = process.communicate(timeout=ALL_DONE)
    except subprocess.TimeoutExpired:
        _end(process)
        return killed, "it did not end"
    return killed, "" if process.returncode == 0 else f"it ended with {process.returncode}: {printed[-400:]}"


def _end(process: subprocess.Popen[str]) -> str:
    """Kill a command; what is wrong if anything that it began is still there a little later."""
    try:
        began = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        began = []
    workers = [one for one in began if _name(one).startswith(WORKER)]
    process.kill()
    process.communicate()
    alive = psutil.wait_procs(workers, timeout=LET_GO)[1] or psutil.wait_procs(began, timeout=RAY_ENDS)[1]
    names = [_name(one) for one in alive]
    for one in alive:
        with suppress(psutil.Error):
            one.kill()
    return f"still there: {names}" if names else ""


def _workers(of: int) -> Iterator[psutil.Process]:
    """The processes of Ray's workers that a process began."""
    with suppress(psutil.Error):
        for one in psutil.Process(of).children(recursive=True):
            if _name(one).startswith(WORKER):
                yield one


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:80]
    except psutil.Error:
        return ""
