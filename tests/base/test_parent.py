"""A process whose parent is gone ends by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from corrsteer_core.base import parent
from tests.made.places import ROOT

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
CHILD = """
{before}
import pathlib, signal, sys, time
from corrsteer_core.base import parent
parent.end_with_it(signal.SIGTERM, patience=0.5, told=pathlib.Path(sys.argv[1]).touch)
print("watching", flush=True)
while True:
    time.sleep(600)
"""
PARENT = """
import os, subprocess, sys, threading
from corrsteer_core.base import parent
def start():  # a thread that ends, as those that draw pages do
    global child
    child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], env={**os.environ, **parent.environment()},
                             stdout=subprocess.PIPE, text=True, start_new_session=True)
    child.stdout.readline()
thread = threading.Thread(target=start)
thread.start()
thread.join()
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("before", ["", STUBBORN], ids=["asked", "stubborn"])
def test_a_child_outlives_the_thread_that_started_it_but_not_the_process(tmp_path, before):
    told = tmp_path / "told"
    above = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD.format(before=before), str(told)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    child = psutil.Process(int(above.stdout.readline()))
    with pytest.raises(psutil.TimeoutExpired):
        child.wait(1.5)
    assert not told.exists()
    above.kill()
    above.wait()
    gone, _ = psutil.wait_procs([child], timeout=600)
    assert gone
    assert told.exists()


def test_without_a_parent_named_nothing_is_watched(monkeypatch):
    monkeypatch.delenv(parent.VARIABLE, raising=False)
    monkeypatch.setattr(parent.threading, "Thread", lambda **_: pytest.fail("a watch was begun"))
    parent.end_with_it(signal.SIGTERM)


def test_a_grandchild_is_not_told_of_its_grandparent(monkeypatch):
    monkeypatch.setenv(parent.VARIABLE, str(os.getppid()))
    monkeypatch.setattr(parent, "_follow", lambda *_: None)
    parent.end_with_it(signal.SIGTERM)
    assert parent.VARIABLE not in os.environ
