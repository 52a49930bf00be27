"""The campaign runs, in sizes that mean little, and finds what it is there to find."""

from __future__ import annotations

import os
import subprocess
import sys

from campaign.tally import Bounds, Tally, table
from tests.made.places import ROOT


def campaign(*arguments: str, broken: str = "") -> subprocess.CompletedProcess[str]:
    """The campaign in a process of its own, which it forks; `broken` is done to the code before."""
    code = f"import sys; from campaign.__main__ import main\n{broken}\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip


def test_a_campaign_of_a_few_trials_is_clean():
    ended = campaign("--minutes", "0.3", "--trials", "2", "--seed", "1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for kind in (
        "KILL, TERM, INT",
        "killed at a file operation",
        "ENOSPC",
        "DuckDB's own",
        "power cuts",
        "too little memory",
        "sessions at once",
        "damaged files",
        "nonsense",
    ):
        assert kind in ended.stdout
    assert "| all |" in ended.stdout


IN_PLACE = """
from contextlib import contextmanager
from corrsteer_core.base import files
@contextmanager
def replacing(path, *, lasting=True):
    path.unlink(missing_ok=True)
    with files.disk.create(path) as file:
        yield file
        files.disk.flush(file)
files.replacing = replacing
"""


def test_the_campaign_finds_files_that_are_written_in_place():
    ended = campaign("--minutes", "1", "--trials", "40", "--only", "kills-at", broken=IN_PLACE)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "failed:" in ended.stdout


def test_the_table_counts_trials_and_failures():
    one, two = Tally("a"), Tally("b")
    one.note("x", "")
    two.note("y", "lost")
    assert table([one, two]).splitlines()[2:] == ["| a | 1 | 0 |", "| b | 1 | 1 |", "| all | 2 | 1 |"]
    assert list(Bounds(3, 60).numbers()) == [0, 1, 2]
    assert list(Bounds(3, 0).numbers()) == [0]
