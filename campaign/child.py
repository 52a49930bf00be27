"""Work in a process of its own, forked from this one, which has the libraries loaded and opens no database itself."""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corrsteer_core.base import files

BROKEN = 70
"""Exit status of a child in which something escaped that a user should never see."""
LONGEST = 180.0
"""Seconds after which a child counts as stuck."""


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    status: int
    """Exit status; minus the signal where one ended it."""
    printed: str
    seconds: float
    result: Any = None

    @property
    def problem(self) -> str:
        """What no command may do, whatever happens to it."""
        if "Traceback" in self.printed or self.status == BROKEN:
            return "a traceback: " + self.printed.strip()[-300:]
        return ""


@dataclass
class Child:
    """A child at work."""

    pid: int
    log: Path
    began: float

    def wait(self, work: float = 0.0) -> Ended:
        """Wait for its end; one that is stuck is killed. `work`: so many seconds it is meant to take."""
        until = self.began + work + LONGEST
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                until = float("inf")
            time.sleep(0.005)
        printed = self.log.read_text(errors="replace")
        answer = self.log.with_suffix(".json")
        result = json.loads(answer.read_text()) if answer.exists() else None
        stuck = "\nTraceback: it was stuck" if until == float("inf") else ""
        return Ended(os.waitstatus_to_exitcode(status), printed + stuck, time.monotonic() - self.began, result)


def fork(work: Callable[[], Any], cache: Path, disk: files.Disk | None = None) -> Child:
    """Start work on a cache; what it returns is its exit status, or, if it is no number, its result."""
    log = cache.with_name(f"{cache.name}.log")
    log.write_text("")
    log.with_suffix(".json").unlink(missing_ok=True)
    began = time.monotonic()
    gc.freeze()  # a child that collects garbage would copy every page that the libraries are in
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # in the midst of forking Python would swallow it
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return Child(pid, log, began)
    status = BROKEN
    try:
        _redirect(log)
        os.environ["CORRSTEER_CACHE"] = str(cache)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        if disk is not None:
            files.disk = disk
        found = work()
        if isinstance(found, int) and not isinstance(found, bool):
            status = found
        else:
            log.with_suffix(".json").write_text(json.dumps(found))
            status = 0
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


atexit.register(gc.unfreeze)  # or libraries complain at the end of what they find still there


def _redirect(log: Path) -> None:
    at = os.open(log, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(at, standard)
