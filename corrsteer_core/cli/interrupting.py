"""Ctrl-C while DuckDB works: its queries are told to end, then everything goes on as with any Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STORAGE = "corrsteer_core.storage.database"


@contextmanager
def queries_stop() -> Iterator[None]:
    """Let Ctrl-C end queries too, meanwhile.

    DuckDB hears of it in our thread, and then waits for what its own threads have begun, which nobody has told.
    """
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where Ctrl-C is ignored on purpose
    if not listens or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop(number: int, frame: FrameType | None) -> None:
    if storage := sys.modules.get(STORAGE):  # where no run was opened, there is none, and DuckDB is not loaded for this
        storage.stop_queries()
    signal.default_int_handler(number, frame)
