"""What tests share: a quiet hub, the embedded model unpacked once, and the first start, which goes on beside the others."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests must not depend on a hub; what they load is local
# Tiny models gain nothing from a second thread, and the first start goes on beside the tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")


FIRST_START = 900
"""Seconds that the first start may take before the tests give up on it (a slow machine, both cores busy)."""


def pytest_sessionstart(session):
    """Say what the numbers depend on (also with -q, which prints no header): type, device and threads of models here."""
    import torch

    from corrsteer_core.models.loading import pick_dtype, place

    device, spread = place(None)
    said = (
        f"models run in {str(pick_dtype(device)).removeprefix('torch.')} on {device}{', all of them' if spread else ''}"
    )
    if reporter := session.config.pluginmanager.get_plugin("terminalreporter"):
        reporter.write_line(f"{said}; torch threads: {torch.get_num_threads()} (the first start takes every core)")


def pytest_collection_modifyitems(items):
    """Tests of the embedded model come last: they wait for the first start, which takes minutes."""
    items.sort(key=lambda item: item.get_closest_marker("embedded") is not None)


@pytest.fixture(scope="session", autouse=True)
def _first_start_early(request):
    """Begin the first start with the first test if a later one needs it, so that it goes on beside the others."""
    if any("first_start" in item.fixturenames or "demo" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("first_start")


@pytest.fixture(scope="session")
def embedded_cache(tmp_path_factory):
    """A cache folder with nothing but the embedded model in it, taken from the project's own cache if it is there."""
    from corrsteer_core.base.paths import EMBEDDED, PACKAGE

    folder = tmp_path_factory.mktemp("cache")
    ready = PACKAGE.parent / "cache" / "models"
    if (ready / EMBEDDED / "model.safetensors").exists():
        shutil.copytree(ready, folder / "models")
    return folder


def _every_core():
    """The environment as a user has it, without these tests' own limit on threads."""
    return {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}


@dataclass(frozen=True)
class FirstStart:
    """The app as `make app` starts it, on an empty cache."""

    url: str
    cache: Path
    process: subprocess.Popen


@pytest.fixture(scope="session")
def first_start(embedded_cache):
    """The app, started on an empty cache: the page is there at once, the demo's work goes on beside it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "--no-browser", "--port", str(port)],
        cwd=ROOT,
        env={**_every_core(), "CORRSTEER_CACHE": str(embedded_cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:  # ends when the server answers, or with the process
        if "CorrSteer Explorer:" in line:
            break
    assert process.poll() is None, "the app did not start"
    yield FirstStart(f"http://localhost:{port}", embedded_cache, process)
    process.terminate()  # not SIGINT: whoever runs the tests in the background has it ignored
    try:
        process.wait(timeout=600)
    except subprocess.TimeoutExpired:  # a page may still be loading a model; the tests are over
        process.kill()


@pytest.fixture(scope="session")
def demo(first_start):
    """Name of the run that the first start leaves, waited for; the cache is the default one meanwhile."""
    from corrsteer_core.base import jobs
    from corrsteer_core.runs import run_facts

    before = os.environ.get("CORRSTEER_CACHE")
    os.environ["CORRSTEER_CACHE"] = str(first_start.cache)
    until = time.monotonic() + FIRST_START
    while not (run := run_facts.demo_run()):
        failed = [job for job in jobs.jobs() if job.state == "failed"]
        assert not failed, failed[0].error
        assert time.monotonic() < until, "the first start did not end"
        time.sleep(2)
    yield run
    if before is None:
        del os.environ["CORRSTEER_CACHE"]
    else:
        os.environ["CORRSTEER_CACHE"] = before
