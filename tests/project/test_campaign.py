"""The campaign runs, in sizes that mean little, and finds what it is there to find."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from app.shared import components
from campaign import browsers, dead_workers, links, served, together
from campaign.__main__ import SHARES
from campaign.database_cuts import HEADERS, PAGE, after_cut
from campaign.tally import Bounds, Tally, table
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.storage.writing import Writer
from tests.made import fabricated
from tests.made.places import ROOT


def campaign(*arguments: str, broken: str = "") -> subprocess.CompletedProcess[str]:
    """The campaign in a process of its own, which it forks; `broken` is done to the code before."""
    code = f"import sys; from campaign.__main__ import main\n{broken}\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip


FEW = """
from campaign import interruptions
every = interruptions.actions
interruptions.actions = lambda place: [one for one in every(place) if one.name in {names}]
"""


QUICK = [name for name in SHARES if name not in ("workers", "hosts", "sessions", "browsers")]  # which start much: below


def test_a_campaign_of_a_few_trials_is_clean():
    few = FEW.format(names=("refit", "select", "try", "report", "upload", "unpack", "export python"))
    ended = campaign("--minutes", "0.1", "--trials", "1", "--seed", "1", "--only", *QUICK, broken=few)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for kind in (
        "KILL, TERM, INT",
        "killed at a file operation",
        "ENOSPC",
        "other libraries",
        "power cuts, played back",
        "power cuts in what DuckDB writes",
        "too little memory",
        "damaged files",
        "calls with nonsense",
        "links with nonsense",
    ):
        assert kind in ended.stdout
    assert "| all |" in ended.stdout


@pytest.mark.exhaustive
def test_sessions_and_browsers_of_a_few_pages_are_clean():
    ended = campaign("--minutes", "1", "--trials", "1", "--seed", "1", "--only", "sessions", "browsers")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "sessions at once" in ended.stdout
    assert "tabs of Chromium" in ended.stdout


@pytest.mark.exhaustive
def test_workers_that_are_killed_lose_nothing():
    ended = campaign("--minutes", "10", "--trials", "4", "--seed", "1", "--only", "workers")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "workers killed" in ended.stdout


@pytest.mark.exhaustive
def test_a_cluster_of_two_hosts_loses_nothing():
    ended = campaign("--minutes", "10", "--trials", "3", "--seed", "1", "--only", "hosts")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "commands on two hosts" in ended.stdout


def test_workers_are_left_out_without_ray(monkeypatch):
    monkeypatch.setattr(dead_workers, "find_spec", lambda name: None)
    tally = dead_workers.dead_workers(None, None, 0, Bounds(1, 1.0))
    assert (tally.trials, tally.left_out) == (0, "Ray is not installed")


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
    few = FEW.format(names=("export json", "export python"))
    ended = campaign("--minutes", "1", "--trials", "6", "--only", "kills-at", broken=IN_PLACE + few)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "failed:" in ended.stdout


def test_the_table_counts_trials_and_failures():
    one, two = Tally("a"), Tally("b")
    one.note("x", "")
    two.note("y", "lost")
    assert table([one, two]).splitlines()[2:] == ["| a | 1 | 0 |", "| b | 1 | 1 |", "| all | 2 | 1 |"]
    assert table([Tally("a", left_out="no disk")]).splitlines()[2] == "| a (left out: no disk) | 0 | 0 |"
    assert list(Bounds(3, 60).numbers()) == [0, 1, 2]
    assert list(Bounds(3, 0).numbers()) == [0]


@pytest.mark.parametrize(
    ("error", "status", "wrong"),
    [
        (None, 0, []),
        (CorrSteerError("The disk is full."), 1, ["refit ended with 1: CorrSteerError('The disk is full.')"]),
        (KeyError("floor"), None, ["refit ended with 1: KeyError('floor')"]),
        (None, 130, ["refit ended with 130: "]),
    ],
)
def test_a_fit_beside_others_that_fails_is_a_failure(monkeypatch, error, status, wrong):
    def ended(arguments, failed):
        assert arguments[:4] == ["refit", "a-run", "--floor", "6"]
        if error is not None:
            failed(error)
        return 1 if status is None else status

    monkeypatch.setattr(together.main, "main", ended)
    assert together._refitted("a-run", 6) == wrong


def test_a_fit_that_is_refused_while_another_writes_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    run = fabricated.make_run()
    with Writer(run):
        assert together._refitted(run, 1) == []
    assert together._refitted("another-0fab1e00", 1)


def test_without_chromium_that_kind_is_left_out_in_a_plain_line(monkeypatch):
    monkeypatch.setattr(browsers.shutil, "which", lambda name: None)
    tally = browsers.browsers(None, 0, 1.0)
    assert (tally.trials, tally.left_out) == (0, "chromium is not installed")


def test_a_page_that_apologises_is_a_failure(monkeypatch):
    def answers(*said):
        return SimpleNamespace(
            send=lambda asked: None, recv=Mock(side_effect=[one.SerializeToString() for one in said])
        )

    fine, sorry, thrown = ForwardMsg(), ForwardMsg(), ForwardMsg()
    fine.delta.new_element.markdown.body = "fine"
    sorry.delta.new_element.alert.body = components.APOLOGY
    thrown.delta.new_element.exception.message = "KeyError"
    end, broken = ForwardMsg(script_finished=0), ForwardMsg(script_finished=1)
    assert served.drawn(answers(fine, end), "steer", "") == ""
    assert served.drawn(answers(end), "steer", "") == "nothing was drawn"
    assert "went wrong" in served.drawn(answers(fine, sorry, end), "steer", "")
    assert "KeyError" in served.drawn(answers(thrown, end), "steer", "")
    assert "ended with 1" in served.drawn(answers(fine, broken), "steer", "")


def test_links_are_nonsense_of_many_kinds_and_can_be_sent():
    words = {"run": ["r"], "layer": ["1"], "feature": ["2"], "set": ["S"]}
    words["page"] = [
        links._packed(json.dumps({"format": "f", "version": 1, "set": {"rows": []}, "question": "x" * 300}).encode())
    ]
    rng = random.Random(1)
    made = [links.hostile(rng, words) for _ in range(500)]
    assert len(set(made)) > 450
    assert all(one.encode() for one in made), "half a surrogate pair cannot be sent"
    assert sum("page=" in one for one in made) > 50
    assert sum("run=r" in one for one in made) > 200


# --- power cuts in what DuckDB writes ------------------------------------------------------------

FILE, LOG = "runs/r/writing.duckdb", "runs/r/writing.duckdb.wal"
HEADER = b"h" * HEADERS


def test_with_one_header_any_page_that_differs_may_be_the_old_one_and_the_log_may_end_anywhere():
    first = {FILE: HEADER + b"a" * 4 * PAGE, LOG: b"one", "S.json": b"old"}
    then = {FILE: HEADER + b"b" * 6 * PAGE, LOG: b"one two", "S.json": b"new"}
    found = [after_cut(first, then, random.Random(seed)) for seed in range(200)]
    assert all(held["S.json"] == b"new" for held in found)
    assert all(held[FILE].startswith(HEADER) for held in found)
    pages = {held[FILE][HEADERS : HEADERS + 4 * PAGE] for held in found}
    assert len(pages) == 2**4, "each of four pages is the one or the other"
    assert all(set(page) <= set(b"ab") for page in pages)
    assert {held[LOG] for held in found} == {b"one two"[:end] for end in range(3, 8)}
    assert {len(held[FILE]) for held in found} <= set(range(HEADERS + 4 * PAGE, HEADERS + 6 * PAGE + 1))
    assert len({len(held[FILE]) for held in found}) > 100


@pytest.mark.parametrize("first", [{}, {FILE: b"g" * HEADERS + b"a"}])
def test_with_another_header_all_pages_were_flushed_before(first):
    then = {FILE: HEADER + b"b" * PAGE, LOG: b"x"}
    assert all(after_cut(first, then, random.Random(seed)) == then for seed in range(20))
