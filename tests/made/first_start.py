"""The app as `make app` starts it, on an empty cache: once for all processes that run tests, begun by the first of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from corrsteer_core.base.paths import EMBEDDED, PACKAGE
from corrsteer_core.runs import run_facts
from tests.made.places import ROOT

FOLDER = "CORRSTEER_TESTS"
"""Variable with the folder that all processes of one test session share."""
TOKEN = "known-to-the-tests"
FEWER = "48"
UNPACKED = PACKAGE.parent / "cache" / "models"
"""Where the project's own cache has the embedded model, if it was used before."""
PATIENCE = 3000
"""Seconds until the tests give up on the app or on its first work (a slow machine, everything else busy too)."""


@dataclass(frozen=True)
class FirstStart:
    """The app, its cache, and the number of its process."""

    url: str
    """Without the token, as its pages know it."""
    cache: Path
    pid: int

    @property
    def entrance(self) -> str:
        """The address with the token."""
        return f"{self.url}/?token={TOKEN}"

    @property
    def cookie(self) -> str:
        """What a browser that has been there sends, as a header's value."""
        port = self.url.rsplit(":", 1)[1]
        return f"corrsteer-{port}={hashlib.sha256(f'corrsteer:{TOKEN}'.encode()).hexdigest()}"


def begin_session(*, whole: bool) -> None:
    """Make the folder that the processes of this session share; call it before they start.

    The first start does its whole job where the `whole` suite runs, else it measures on fewer samples.
    """
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="corrsteer-tests-")
    if not whole:
        os.environ.setdefault(run_facts.DEMO_LIMIT, FEWER)


def end_session() -> None:
    """Stop the app if there is one, and delete the folder; for the process that made it."""
    folder = Path(os.environ.pop(FOLDER))
    if (folder / "app.json").exists():
        _stop(_read(folder).pid)
    shutil.rmtree(folder, ignore_errors=True)


def begin_first_start() -> FirstStart:
    """The app of this session; the first who asks starts it. Its work goes on beside the tests, before it answers too."""
    folder = Path(os.environ[FOLDER])
    with FileLock(folder / "app.lock"):
        if not (folder / "app.json").exists():
            _start(folder)
    return _read(folder)


def first_start() -> FirstStart:
    """The app of this session, whose first page is there."""
    app = begin_first_start()
    _until_it_answers(app.pid, Path(os.environ[FOLDER]) / "app.log")
    return app


def _read(folder: Path) -> FirstStart:
    said = json.loads((folder / "app.json").read_text())
    return FirstStart(said["url"], folder / "cache", said["pid"])


@contextmanager
def presented(of: FirstStart) -> Iterator[FirstStart]:
    """An app of its own that shows a copy of the same runs read-only, as long as it is needed."""
    folder = Path(tempfile.mkdtemp(prefix="presented-", dir=os.environ[FOLDER]))
    log, cache = folder / "app.log", folder / "cache"
    shutil.copytree(of.cache / "runs", cache / "runs", ignore=shutil.ignore_patterns("writing*"))
    (cache / "models").symlink_to(of.cache / "models")
    process, url = _serve(log, cache, dict(os.environ), "--present")
    try:
        _until_it_answers(process.pid, log)
        yield FirstStart(url, cache, process.pid)
    finally:
        _stop(process.pid)


def _start(folder: Path) -> None:
    (folder / "cache").mkdir()
    if ready := _with_the_model([UNPACKED]):
        shutil.copytree(ready / EMBEDDED, folder / "cache" / "models" / EMBEDDED)
    environment = dict(os.environ)
    if run_facts.DEMO_LIMIT not in environment:  # as a user has it, without these tests' own limit on threads
        environment.pop("OMP_NUM_THREADS", None)
    process, url = _serve(folder / "app.log", folder / "cache", environment)
    about = {"url": url, "pid": process.pid}
    (folder / "app.json").write_text(json.dumps(about))  # from here on it is stopped whatever happens


def _serve(log: Path, cache: Path, environment: dict[str, str], *options: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start an app on a cache, and the address it will have."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "--no-browser", "--port", str(port), *options],
            cwd=ROOT,
            env={**environment, "CORRSTEER_CACHE": str(cache), "CORRSTEER_TOKEN": TOKEN},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives the process that starts it
        )
    return process, f"http://localhost:{port}"


def _until_it_answers(pid: int, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while "CorrSteer Explorer:" not in log.read_text():
        assert _runs(pid), f"the app did not start: {log.read_text()}"
        assert time.monotonic() < until, "the app does not answer"
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def with_the_model(cache: Path) -> None:
    """Make a cache with the embedded model: the project's own or the first start's, where there is one, else unpacked."""
    cache.mkdir()
    folder = Path(os.environ[FOLDER])
    with FileLock(folder / "unpacked.lock"):
        places = (UNPACKED, folder / "cache" / "models", folder / "unpacked" / "models")
        if not (ready := _with_the_model(places)):
            code = "from corrsteer_core.models.embedded import embedded_folder; embedded_folder()"
            environment = {**os.environ, "CORRSTEER_CACHE": str(folder / "unpacked")}
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, env=environment)
            ready = places[-1]
    shutil.copytree(ready / EMBEDDED, cache / "models" / EMBEDDED)


def _with_the_model(places: Iterable[Path]) -> Path | None:
    """The first of these that the embedded model is in, whole: it is moved there when it is."""
    return next((place for place in places if (place / EMBEDDED / "model.safetensors").exists()), None)


def _stop(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        process.terminate()  # not SIGINT: whoever runs the tests in the background has it ignored
        process.wait(timeout=600)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:  # a page may still be loading a model; the tests are over
        process.kill()
