"""The app in a process of its own, and its pages as their websocket says them."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from app.shared.components import APOLOGY
from corrsteer_core.base.paths import PACKAGE

PAGES = ("overview", "features", "steer", "evaluate", "blind", "report", "nowhere")
TOKEN = "of-the-campaign"  # noqa: S105 - of a server that ends with this
PATIENCE = 120.0
"""Seconds that one page may take with nine others beside it."""
_FINISHED = (0, 3)  # of ScriptFinishedStatus: all of it, or a fragment


@contextmanager
def server(cache: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The app on a cache: its port and its process, which is ended with the context."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "app.server", str(port)],
        cwd=PACKAGE.parent,
        env={**os.environ, "CORRSTEER_CACHE": str(cache), "CORRSTEER_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and process.poll() is None:
            with suppress(OSError):
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=5).close()
                break
            time.sleep(0.2)
        yield port, process
    finally:
        process.kill()
        process.wait()


def connected(port: int) -> Any:
    """A session with the app, as a browser that was let in opens it."""
    from websockets.sync.client import connect

    mark = hashlib.sha256(f"corrsteer:{TOKEN}".encode()).hexdigest()
    return connect(  # type: ignore[call-overload]  # an origin is a kind of text of its own there
        f"ws://localhost:{port}/_stcore/stream",
        origin=f"http://localhost:{port}",
        additional_headers={"Cookie": f"corrsteer-{port}={mark}"},
        max_size=None,
        open_timeout=PATIENCE,
        close_timeout=1,
    )


def drawn(connection: Any, page: str, query: str) -> str:
    """What is wrong with one page under a link's query; "" where it was drawn to its end."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    asked = BackMsg()
    asked.rerun_script.query_string = query
    asked.rerun_script.page_name = page
    connection.send(asked.SerializeToString())
    until, parts = time.monotonic() + PATIENCE, 0
    while time.monotonic() < until:
        said = ForwardMsg.FromString(connection.recv(timeout=PATIENCE))
        if problem := _problem(said):
            return problem
        parts += said.WhichOneof("type") == "delta"
        if said.WhichOneof("type") == "script_finished":
            if said.script_finished not in _FINISHED:
                return f"it ended with {said.script_finished}"
            return "" if parts else "nothing was drawn"
    return f"it was not drawn after {PATIENCE:.0f} seconds"


def _problem(said: Any) -> str:
    """What no page may say: an exception, or that something went wrong."""
    if said.WhichOneof("type") != "delta":
        return ""
    if said.delta.new_element.WhichOneof("type") == "exception":
        return f"an exception: {said.delta.new_element.exception.message[:200]}"
    return f"the page says: {APOLOGY}" if APOLOGY in str(said.delta) else ""
