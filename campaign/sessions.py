"""Ten browser sessions at once, as their websockets say it: every page is drawn to its end, and the server stays as large as it was."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from campaign.actions import Place, copied
from campaign.tally import Tally
from corrsteer_core.base.paths import PACKAGE

SESSIONS = 10
PAGES = ("overview", "features", "steer", "evaluate", "report", "nowhere")
TOKEN = "of-the-campaign"  # noqa: S105 - of a server that ends with this
PATIENCE = 120.0
"""Seconds that one page may take with nine others beside it."""
GROWTH = 300 * 2**20
"""Bytes by which a server may be larger at the end than when every session had seen every page."""
BROKEN = "Something went wrong"


def sessions(place: Place, seed: int, seconds: float) -> Tally:
    """Every page that one of ten sessions draws is a trial."""
    tally = Tally(f"pages drawn in {SESSIONS} sessions at once")
    cache = copied(place.template, place.folder / "served")
    with _server(cache) as (port, process):
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


@contextmanager
def _server(cache: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
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


def _visit(port: int, run: str, rng: random.Random, until: float, done: list[tuple[str, str]]) -> None:
    """One session: pages in a random order, each drawn to its end; a reload, a new connection, now and then."""
    while time.monotonic() < until:
        try:
            with closing(_connected(port)) as connection:
                for page in rng.sample(PAGES, len(PAGES)):
                    done.append((f"page {page}", _drawn(connection, page, run)))
        except Exception as error:  # whatever it is, it is what a browser would have met
            done.append(("a session", f"{type(error).__name__}: {error}"))
            return


def _connected(port: int) -> Any:
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


def _drawn(connection: Any, page: str, run: str) -> str:
    """What is wrong with one page; "" where it was drawn to its end."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    asked = BackMsg()
    asked.rerun_script.query_string = f"run={run}"
    asked.rerun_script.page_name = page
    connection.send(asked.SerializeToString())
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        said = ForwardMsg.FromString(connection.recv(timeout=PATIENCE))
        if said.WhichOneof("type") == "delta" and said.delta.new_element.WhichOneof("type") == "exception":
            return f"an exception: {said.delta.new_element.exception.message[:200]}"
        if BROKEN in str(said.delta):
            return f"the page says: {BROKEN}"
        if said.WhichOneof("type") == "script_finished":
            return "" if said.script_finished in _FINISHED else f"it ended with {said.script_finished}"
    return f"it was not drawn after {PATIENCE:.0f} seconds"


_FINISHED = (0, 3)  # of ScriptFinishedStatus: all of it, or a fragment
