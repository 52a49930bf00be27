"""A process that ends when the one that started it is gone, however that ended: `kill -9` leaves nobody to tell its children.

Linux has a signal for this (PR_SET_PDEATHSIG), but it comes when the *thread* that started the process ends, and the
threads that draw pages, which start jobs, end after every page. So a thread looks, twice a second, on every system.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

VARIABLE = "CORRSTEER_PARENT"
"""Environment variable with the number of the process to end with; without it, nothing is watched."""
_LOOK = 0.5  # seconds


def environment() -> dict[str, str]:
    """What a child's environment needs to end with this process."""
    return {VARIABLE: str(os.getpid())}


def end_with_it(ask: signal.Signals, patience: float = 10.0, told: Callable[[], object] = lambda: None) -> None:
    """End this process with its parent: call `told`, send itself `ask`, and after `patience` seconds end at once."""
    number = os.environ.pop(VARIABLE, "")  # it is ours: our own children have another parent
    if number.isdecimal():
        gone = _watch(int(number))
        threading.Thread(target=_follow, args=(gone, ask, patience, told), daemon=True).start()


def _watch(number: int) -> Callable[[], bool]:
    """A function that says whether the process of this number, our parent, is gone."""
    if os.name == "posix":
        return lambda: os.getppid() != number  # the system gives orphans another parent at once
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(number)
        return lambda: not process.is_running()
    return lambda: True


def _follow(gone: Callable[[], bool], ask: signal.Signals, patience: float, told: Callable[[], object]) -> None:
    while not gone():
        time.sleep(_LOOK)
    with suppress(Exception):  # whatever it was to leave, the process ends
        told()
    _interrupt(ask)
    time.sleep(patience)
    os._exit(128 + ask)


def _interrupt(ask: signal.Signals) -> None:
    """Send a signal to the main thread, which is woken by it wherever it waits."""
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, ask)
    else:
        signal.raise_signal(ask)
