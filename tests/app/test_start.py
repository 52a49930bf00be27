"""`python -m app` from its start to its end, with a server that does nothing: what ends with it and what does not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app import __main__ as start
from corrsteer_core.base import jobs
from tests.made.pretended_jobs import pretended_core

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = """
import time
CANCELLED = 130
def main(arguments, failed):
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        return CANCELLED
"""
APP = """
import os, pathlib, signal, subprocess, sys
from app import __main__ as start
from corrsteer_core.base import jobs

def serve(port, how, token):
    jobs.PACKAGE = pathlib.Path(os.environ["FAKE"])
    jobs.start(["anything"], "ours")
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)

def answers(inside, server):
    print(server.pid, flush=True)

signal.signal(signal.SIGHUP, signal.SIG_IGN if "NOHUP" in os.environ else signal.SIG_DFL)
start._serve, start._answers, start.start_demo = serve, answers, lambda: None
sys.argv = ["app", "--no-browser", "--port", "1"]
sys.exit(start.main())
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def anothers(cache: Path) -> Iterator[str]:
    """A running job of another app on the same cache."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        folder = cache / "jobs" / "20260101-000000-abcdef"
        folder.mkdir(parents=True)
        about = {"id": folder.name, "title": "another's", "arguments": ["fit"], "started": "2026-01-01T00:00:00+00:00"}
        (folder / "job.json").write_text(json.dumps({**about, "instance": "another"}))
        created = psutil.Process(process.pid).create_time()
        (folder / "process.json").write_text(json.dumps({"pid": process.pid, "created": created}))
        yield folder.name
        process.kill()


def begun(cache: Path, stderr: int | None = None, **environment: str) -> subprocess.Popen:
    """The app, started."""
    fake = pretended_core(cache, COMMANDS)
    return subprocess.Popen(
        [sys.executable, "-c", APP],
        cwd=ROOT,
        env={**os.environ, "FAKE": str(fake), **environment},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def started(cache: Path, **environment: str) -> tuple[subprocess.Popen, psutil.Process]:
    """The app and its server, running."""
    app = begun(cache, **environment)
    assert app.stdout
    return app, psutil.Process(int(app.stdout.readline()))


@pytest.mark.parametrize("asked", [signal.SIGHUP, signal.SIGTERM])
def test_what_ends_the_app_ends_its_server_and_its_jobs_and_nobody_elses(cache, anothers, asked):
    app, server = started(cache)
    app.send_signal(asked)
    assert app.wait(600) == 0
    assert not server.is_running()
    assert {job.title: job.state for job in jobs.jobs()} == {"ours": "cancelled", "another's": "running"}


def test_an_app_that_is_to_outlive_its_terminal_does(cache):
    app, server = started(cache, NOHUP="1")
    app.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        app.wait(1)
    app.terminate()
    assert app.wait(600) == 0
    assert not server.is_running()


SERVER = """
import os, sys, time
from app import server
server.LOADED = ()
from corrsteer_core.base import jobs
class Served:
    def run(self, config):
        import pathlib
        jobs.PACKAGE = pathlib.Path(os.environ["FAKE"])
        jobs.start(["something"], "of a page")
        time.sleep(600)
server.served = lambda *_, **__: Served()
server.main(["0"])
"""


def with_a_server(code: str) -> str:
    """The app's code with a server whose process runs `code`."""
    begun = 'return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)'
    assert begun in APP
    real = f"return subprocess.Popen([sys.executable, '-c', {code!r}], env={{**os.environ, **parent.environment()}})"
    return APP.replace(begun, real).replace("import jobs", "import jobs, parent")


def test_an_app_that_is_killed_leaves_neither_server_nor_job(cache, anothers, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "APP", with_a_server(SERVER))
    app, server = started(cache)
    until = time.monotonic() + 600
    while len([job for job in jobs.jobs() if job.title in ("ours", "of a page")]) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    app.kill()
    assert app.wait(600) == -signal.SIGKILL
    psutil.wait_procs([server], timeout=600)
    assert not server.is_running()
    while (states := {job.title: job.state for job in jobs.jobs()})["ours"] == "running" or (
        states["of a page"] == "running"
    ):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert states == {"ours": "cancelled", "of a page": "cancelled", "another's": "running"}


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("os.kill(os.getpid(), 9)", 1, "was killed (by somebody, or by the system for want of memory)"),
        ("os.kill(os.getpid(), 15)", 1, "was ended by SIGTERM"),
        ("sys.exit(3)", 3, "ended with status 3"),
        ("sys.exit(0)", 1, "ended with status 0"),
    ],
)
def test_a_server_that_ends_by_itself_is_told_of_in_one_sentence(cache, monkeypatch, end, status, said):
    monkeypatch.setattr(sys.modules[__name__], "APP", with_a_server(f"import os, sys; {end}"))
    app = begun(cache, stderr=subprocess.PIPE)
    _, told = app.communicate(timeout=600)
    assert app.returncode == status
    assert told.startswith("error: The app's server ")
    assert said in told
    assert told.count("\n") == 1
    assert {job.state for job in jobs.jobs()} == {"cancelled"}


def test_a_server_that_starts_warns_of_nothing():
    """With all that it loads beforehand; a port that is taken ends it where it would begin to serve."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = subprocess.run(
            [sys.executable, "-m", "app.server", str(port)], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert f"Port {port} is not available" in server.stderr
    assert "WARNING" not in server.stdout + server.stderr


def test_work_that_the_browser_dismisses_is_followed_no_more(monkeypatch, capsys):
    monkeypatch.setattr(start.time, "sleep", lambda seconds: None)
    start._follow("20260101-000000-abcdef")
    assert capsys.readouterr().out == ""
