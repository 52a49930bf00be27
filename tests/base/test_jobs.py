"""Jobs: real commands in the background, how they end, and what is left of them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app import __main__ as start
from corrsteer_core.base import files, job_queue, jobs
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.uploads import keep_upload
from corrsteer_core.cli import main
from tests.made.pretended_jobs import pretended_core


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    return tmp_path


def ended(id: str, patience: float = 600.0) -> jobs.Job:
    until = time.monotonic() + patience
    while (job := jobs.job(id)).state == "running" and time.monotonic() < until:
        time.sleep(0.05)
    return job


def log_of(id: str) -> Path:
    return Path(os.environ["CORRSTEER_CACHE"]) / "jobs" / id / "log"


def pretend(cache: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> str:
    """A job whose command line is a script of ours."""
    monkeypatch.setattr(jobs, "PACKAGE", pretended_core(cache, f"CANCELLED = 130\n{script}"))
    return jobs.start(["anything"], "pretended")


WAITING = """
import sys, time, json
def main(arguments, failed):
    json.dump({"stage": "waiting", "share": 0.25, "left": 1000.0}, open(arguments[-1], "w"))
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        return 130
"""


def test_a_command_finishes_and_its_log_holds_what_it_printed():
    id = jobs.start(["runs", "--json"], "List the runs")
    job = ended(id)
    assert (job.state, job.title, job.error) == ("finished", "List the runs", "")
    assert log_of(id).read_text().strip().endswith("[]")
    assert [one.id for one in jobs.jobs()] == [id]


def test_a_failing_command_shows_its_sentence():
    job = ended(jobs.start(["features", "no-such-run"], "Features"))
    assert job.state == "failed"
    assert "There is no run 'no-such-run'" in job.error
    assert not job.error.startswith("error")
    assert not job.again  # it would fail again in the same way


def test_arguments_that_the_command_line_refuses_fail_with_its_words():
    job = ended(jobs.start(["fit", "--layers", "eight"], "Fit"))
    assert job.state == "failed"
    assert "is not a list of layers" in job.error
    assert not job.again


def test_a_crash_without_a_sentence_names_the_log(cache, monkeypatch):
    job = ended(pretend(cache, monkeypatch, "def main(arguments, failed): raise RuntimeError('boom')"))
    assert job.state == "failed"
    assert str(log_of(job.id)) in job.error
    assert job.again  # a bug of ours, or the machine's: nobody knows


def test_a_running_job_tells_how_far_it_is_and_can_be_cancelled(cache, monkeypatch):
    id = pretend(cache, monkeypatch, WAITING)
    until = time.monotonic() + 600
    while jobs.job(id).stage != "waiting" and time.monotonic() < until:
        time.sleep(0.05)
    job = jobs.job(id)
    assert (job.state, job.share) == ("running", 0.25)
    assert 60 < (job.seconds_left or 0) <= 1000
    same = jobs.running(["anything"])
    assert [same and same.id] == [id]
    with pytest.raises(CorrSteerError, match="still running"):
        jobs.forget(id)
    jobs.cancel(id)
    assert ended(id).state == "cancelled"
    assert jobs.running(["anything"]) is None


def test_a_job_that_does_not_listen_is_ended_at_once_the_second_time(cache, monkeypatch):
    deaf = WAITING.replace("return 130", "time.sleep(600)")
    id = pretend(cache, monkeypatch, deaf)
    while jobs.job(id).stage != "waiting":
        time.sleep(0.05)
    jobs.stop(id, patience=0.5)
    assert ended(id).state == "cancelled"


def test_a_job_is_cancelled_before_it_can_hear_it(cache, monkeypatch):
    """Begun from a background shell, its process knows nothing of Ctrl-C until Python is up."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        id = pretend(cache, monkeypatch, WAITING)
        jobs.cancel(id)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        assert ended(id, patience=120).state == "cancelled"
    finally:
        jobs.stop(id, patience=0.5)


def test_cancelling_never_hits_another_process_that_got_the_same_id(cache):
    folder = cache / "jobs" / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    about = {"id": folder.name, "title": "old", "arguments": ["fit"], "started": "2026-01-01T00:00:00+00:00"}
    (folder / "job.json").write_text(json.dumps(about))
    (folder / "log").touch()
    (folder / "process.json").write_text(json.dumps({"pid": os.getpid(), "created": 1.0}))
    jobs.cancel(folder.name)  # would interrupt this very test
    assert jobs.job(folder.name).state == "failed"


def test_resuming_runs_the_same_command_and_forgets_the_old_job():
    old = jobs.start(["runs"], "List")
    ended(old)
    new = jobs.resume(old)
    assert ended(new).arguments == ("runs",)
    assert [one.id for one in jobs.jobs()] == [new]
    jobs.forget(new)
    assert jobs.jobs() == []


@pytest.mark.parametrize("id", ["", "..", "../../etc", "20260101-000000-abcdef", "20260101-000000-abcdef/../x", "\0"])
def test_an_id_that_is_none_is_an_error(id):
    for action in (jobs.job, jobs.resume):
        with pytest.raises(CorrSteerError, match="There is no job"):
            action(id)
    for action in (jobs.cancel, jobs.forget, jobs.stop):
        action(id)  # another window may have put the job away: nothing is left to do


def ended_badly(cache: Path) -> Path:
    """The folder of a job that failed long ago."""
    folder = cache / "jobs" / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    about = {"id": folder.name, "title": "old", "arguments": ["fit"], "started": "2026-01-01T00:00:00+00:00"}
    (folder / "job.json").write_text(json.dumps(about))
    (folder / "progress.json").write_text(json.dumps({"left": 5.0}))
    (folder / "log").touch()
    return folder


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_job_that_is_forgotten_while_it_is_read_is_no_job(cache, monkeypatch, state):
    folder = ended_badly(cache)
    jobs.forget("20260101-000000-000000")
    assert [job.state for job in jobs.jobs()] == ["failed"]

    def forgotten(folder: Path, started: object) -> str:
        shutil.rmtree(folder)
        return state

    monkeypatch.setattr(jobs, "_state", forgotten)
    assert jobs.jobs() == []
    assert not folder.exists()


def test_a_job_is_forgotten_as_a_whole(cache, monkeypatch):
    folder = ended_badly(cache)
    seen: list[list[jobs.Job]] = []
    monkeypatch.setattr("corrsteer_core.base.files.shutil.rmtree", lambda gone: seen.append(jobs.jobs()))
    jobs.forget(folder.name)
    assert seen == [[]]


def test_what_stopping_a_command_leaves_is_told_of_each_that_there_is():
    (commands,) = (action.choices for action in main.parser()._actions if action.dest == "name")
    assert {*jobs.GOES_ON, *jobs.KEPT} <= set(commands)
    assert not set(jobs.GOES_ON) & set(jobs.KEPT)
    assert jobs.if_stopped("fit") == "What is finished is kept; it goes on from there."
    assert jobs.if_stopped("report") == "Nothing of it is kept; it will begin again from the start."
    assert jobs.if_stopped("evaluate") == (
        "Sets that it chose among random features are kept, and its numbers if only rivals were left to measure; it will "
        "begin again from the start."
    )
    assert (
        jobs.if_stopped("sweep")
        == "The numbers of the tasks it has finished are kept; it will begin again from the start."
    )


def test_a_job_knows_the_app_that_it_was_started_from(monkeypatch):
    monkeypatch.setenv(jobs.INSTANCE, "this one")
    id = jobs.start(["runs"], "List")
    assert ended(id).instance == "this one"


GOOD = {"id": "x", "title": "old", "arguments": ["fit"], "started": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize("started", ["no time", "", 5, None, "2026-01-01T00:00:00", ["2026"]])
def test_a_job_with_a_damaged_start_is_passed_over(cache, started):
    folder = ended_badly(cache)
    (folder / "job.json").write_text(json.dumps({**GOOD, "started": started}))
    assert jobs.jobs() == []
    assert jobs.running(["fit"]) is None


@pytest.mark.parametrize("arguments", [5, None, [], [1], {"fit": 1}, "fit"])
def test_a_job_with_damaged_arguments_is_passed_over(cache, arguments):
    folder = ended_badly(cache)
    (folder / "job.json").write_text(json.dumps({**GOOD, "arguments": arguments}))
    assert jobs.jobs() == []


@pytest.mark.parametrize("name", ["job.json", "process.json", "progress.json", "exit", "cancelled", "log"])
@pytest.mark.parametrize(
    "damage", [b"", b"\x00" * 40, b"[1", b'"text"', b"[[[[" * 50_000, b"\xff\xfe", "folder", "link"]
)
def test_no_damaged_file_of_a_job_stops_the_list(cache, name, damage):
    folder = ended_badly(cache)
    path = folder / name
    path.unlink(missing_ok=True)
    if damage == "folder":
        path.mkdir()
    elif damage == "link":
        path.symlink_to(path)
    else:
        path.write_bytes(damage)
    found = jobs.jobs()
    assert [job.state for job in found] in ([], ["failed"], ["cancelled"])
    jobs.forget(folder.name)
    jobs.cancel(folder.name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("process.json", {"pid": "x", "created": 1.0}),
        ("process.json", {"pid": 1, "created": "x"}),
        ("process.json", {"pid": -5, "created": 1.0}),
        ("process.json", {"pid": 10**30, "created": 1.0}),
        ("process.json", {"pid": 1e300, "created": float("nan")}),
        ("progress.json", {"share": "x", "stage": 5, "left": "x"}),
        ("progress.json", {"share": float("nan"), "stage": ["x"], "left": float("inf")}),
        ("progress.json", {"share": [1], "stage": None, "left": {}}),
        ("exit", {"status": "x"}),
    ],
)
def test_no_wrong_value_in_a_file_of_a_job_stops_the_list(cache, name, content):
    folder = ended_badly(cache)
    (folder / name).write_text(json.dumps(content))
    (job,) = jobs.jobs()
    assert job.state == "failed"
    assert 0 <= job.share <= 1
    assert isinstance(job.stage, str)
    jobs.cancel(folder.name)


def test_a_job_that_the_disk_has_no_room_for_is_a_sentence_and_leaves_nothing(cache, monkeypatch):
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    old = ended_badly(cache)
    for failing in ("create", "flush", "replace"):
        with monkeypatch.context() as disk:
            disk.setattr(files.disk, failing, full)
            with pytest.raises(CorrSteerError, match="No space left on device; make room"):
                jobs.start(["runs"], "List the runs")
            with pytest.raises(CorrSteerError, match="No space left"):
                jobs.resume(old.name)
    assert [path.name for path in (cache / "jobs").iterdir()] == [old.name]
    assert ended(jobs.start(["runs"], "List the runs")).state == "finished"


def test_the_app_opens_on_a_full_disk_without_the_first_run(cache, monkeypatch, capsys):
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.disk, "create", full)
    assert start.start_demo() is None
    assert "No space left on device; make room" in capsys.readouterr().err
    assert jobs.jobs() == []


def test_a_damaged_job_folder_is_passed_over(cache):
    folder = cache / "jobs" / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{")
    assert jobs.jobs() == []


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("my data.jsonl", "my-data.jsonl"),
        ("../../etc/passwd", "passwd.jsonl"),
        ("\u202e<b>.jsonl", "b.jsonl"),
        ("...", "data.jsonl"),
    ],
)
def test_an_upload_is_kept_under_a_harmless_name(cache, name, kept):
    path = keep_upload(name, b'{"prompt": "x"}\n')
    assert path.name == kept
    assert path.is_relative_to(cache / "uploads")
    assert path.read_bytes() == b'{"prompt": "x"}\n'


def test_an_empty_upload_is_refused():
    with pytest.raises(CorrSteerError, match="empty"):
        keep_upload("x.jsonl", b" \n")


# --- one after the other -------------------------------------------------------------------------


def staged(id: str, stage: str, patience: float = 600.0) -> jobs.Job:
    """A job, once its stage is this."""
    until = time.monotonic() + patience
    while (job := jobs.job(id)).stage != stage:
        assert time.monotonic() < until, job
        time.sleep(0.05)
    return job


def test_a_second_job_waits_and_says_for_whom_until_the_first_has_ended(cache, monkeypatch):
    first = pretend(cache, monkeypatch, WAITING)
    second = jobs.start(["another"], "second")
    third = jobs.start(["yet another"], "third")
    assert staged(first, "waiting").share == 0.25
    waits = staged(second, "waiting until “pretended” has ended")
    assert (waits.state, waits.share) == ("running", 0.0)
    staged(third, "waiting until “pretended” and 1 more have ended")
    jobs.stop(first)
    staged(second, "waiting")
    staged(third, "waiting until “second” has ended")
    jobs.stop(third)
    assert jobs.job(third).state == "cancelled", "one that waits can be cancelled"
    assert jobs.job(second).state == "running"
    jobs.stop(second)


def test_more_run_at_once_where_that_is_asked_for(cache, monkeypatch):
    monkeypatch.setenv(job_queue.AT_ONCE, "2")
    every = [pretend(cache, monkeypatch, WAITING), jobs.start(["another"], "second"), jobs.start(["third"], "third")]
    for id in every[:2]:
        staged(id, "waiting")
    staged(every[2], "waiting until “pretended” and 1 more have ended")
    for id in every:
        jobs.stop(id)


@pytest.mark.parametrize(("asked", "jobs_at_once"), [("", 1), ("3", 3), ("0", 1), ("-2", 1), ("many", 1)])
def test_how_many_run_at_once(monkeypatch, asked, jobs_at_once):
    monkeypatch.setenv(job_queue.AT_ONCE, asked)
    assert job_queue.at_once() == jobs_at_once


def test_the_same_work_asked_for_many_times_at_once_is_one_job(cache, monkeypatch):
    first = pretend(cache, monkeypatch, WAITING)
    with ThreadPoolExecutor(20) as clicks:
        ids = set(clicks.map(lambda _: jobs.start(["the same"], "twice"), range(20)))
    assert len(ids) == 1
    assert sorted(job.title for job in jobs.jobs()) == ["pretended", "twice"]
    jobs.stop(ids.pop())
    assert jobs.start(["the same"], "twice") not in ids, "what has ended can be done again"
    for job in jobs.jobs():
        jobs.stop(job.id)
    assert first
