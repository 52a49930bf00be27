"""Ray itself: one of this machine's own, for this process alone, or a cluster that is there."""

from __future__ import annotations

import io
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache
from typing import Any, TextIO

from corrsteer_core.base.errors import CorrSteerError

OBJECT_STORE = 200 * 2**20
"""Bytes: only what is asked goes through it, and parts of workers that do not see our files."""
STARTING = 180
"""Seconds that the parts of Ray may take to start, on a machine that is busy."""
NICENESS = 5
"""Workers stand back a little behind the pages and the process that shares out. Ray's own 15 lets any other busy process
starve them: beside four, on two cores, they did not start within three minutes."""
NOT_INSTALLED = (
    "Several workers need the package ray, which is not installed; install it with: pip install 'ray>=2.60' (or leave out "
    "--workers and --ray)."
)


@contextmanager
def joined(count: int | None, address: str | None) -> Iterator[None]:
    """Ray, while the context is open; without an address one of `count` processes at once (None: one per core).

    Raises CorrSteerError where Ray is not installed, does not start, or its cluster is not reached.
    """
    with _silent():
        _start(count, address)
        try:
            yield
        finally:
            import ray

            with _signals_kept(), redirect_stdout(io.StringIO()):  # what Ray still had to say, it says now
                ray.shutdown()


def _start(count: int | None, address: str | None) -> None:
    """Begin a Ray of this machine's own, for this process alone, or join the cluster at an address."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(STARTING))
    os.environ.setdefault("RAY_raylet_start_wait_time_s", str(STARTING))
    os.environ.setdefault("RAY_worker_niceness", str(NICENESS))
    if address is None:
        # A token for this Ray alone: nobody else on this machine can give its workers something to do. Ray asks for one
        # by itself, unless it is told otherwise.
        os.environ.pop("RAY_AUTH_MODE", None)
        os.environ["RAY_AUTH_TOKEN"] = _token()
    try:
        import ray
    except ImportError:
        raise CorrSteerError(NOT_INSTALLED) from None
    here: dict[str, Any] = {
        "address": "local",
        "num_cpus": count,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
    }
    with _signals_kept():
        try:
            ray.init(
                **(here if address is None else {"address": address}), log_to_driver=False, logging_level=logging.ERROR
            )
        except Exception as error:
            where = f"the Ray cluster at {address} was not reached" if address else "Ray did not start on this machine"
            raise CorrSteerError(f"{where[0].upper()}{where[1:]}: {str(error).strip().splitlines()[0]}") from error


@cache
def _token() -> str:
    """One for this process: Ray remembers the first that it reads, also when it is started again."""
    return secrets.token_hex(32)


class _WithoutRay:
    """Standard output, less what a thread of Ray's prints into it: it would stand in the middle of a command's result."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name.startswith("ray_") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _silent() -> Iterator[None]:
    stream = sys.stdout
    sys.stdout = _WithoutRay(stream)
    try:
        yield
    finally:
        sys.stdout = stream


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts a handler of its own in place of what SIGTERM does; ours stays."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, before)
