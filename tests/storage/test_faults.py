"""A run survives damaged files, failing writers, full disks and interrupts; what cannot be saved is said in one line."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys

import duckdb
import pandas as pd
import pytest

from corrsteer_core.base import files
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.method import collecting
from corrsteer_core.runs import fit, measurements, run_facts
from corrsteer_core.runs.fit import FitSettings
from corrsteer_core.storage import database, deleting, problems, reading, run_folder, writing
from tests.made import fabricated
from tests.made.places import ROOT

GOOD, BAD = "sentiment-good0000", "sentiment-bad00000"
SETTINGS = FitSettings(permutations=19, seed=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a finished run's file."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORRSTEER_CACHE", str(folder))
        return run_folder.database_path(fabricated.make_run(BAD)).read_bytes()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def good():
    return fabricated.make_run(GOOD, measured=False)


def place(content: bytes, name: str = run_folder.PUBLISHED, run: str = BAD):
    folder = run_folder.runs_dir() / run
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def flipped(whole: bytes, rng: random.Random) -> bytes:
    content = bytearray(whole)
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def damaged_block(whole: bytes) -> bytes:
    """One flipped bit, in a block that reading everything meets."""
    rng = random.Random(7)
    while True:
        content = flipped(whole, rng)
        path = place(content, "probe.duckdb", "probe")
        try:
            database.check_file(path)
        except CorrSteerError:
            return content
        finally:
            shutil.rmtree(path.parent)


def everything(run: str) -> dict[str, int]:
    """A number for the content of every table, whatever the order of rows."""
    with reading.Reader(run) as opened:
        tables = ("runs", "samples", "activations", "features", "fits", "chance", "effects", "sets", "evaluations")
        return {
            table: opened.connection.execute(f"SELECT bit_xor(hash(one)) FROM {table} AS one").fetchone()
            for table in tables
        }


def problem_of(action) -> str:
    """The sentence with which something fails; empty if it does not."""
    try:
        action()
    except CorrSteerError as error:
        return str(error)
    return ""


# --- damaged files -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_run_is_one_line_and_everything_else_goes_on(whole, good, seed, capsys):
    rng = random.Random(seed)
    place(flipped(whole, rng) if seed % 2 else whole[: rng.randrange(len(whole))])
    before = everything(good)
    assert main.main(["runs", "--json"]) == 0
    assert GOOD in capsys.readouterr().out
    table = run_facts.runs()
    problem = table.set_index("run").loc[BAD, "problem"]
    assert problem is None or ("is damaged" in problem and "Put a backup in its place, or delete" in problem)
    assert run_facts.demo_run() in (None, BAD)
    for question in (
        run_facts.facts,
        run_facts.headline,
        run_facts.chance,
        measurements.sets,
        measurements.evaluations,
    ):
        said = problem_of(lambda question=question: question(BAD))
        assert "open for writing" not in said
    assert everything(good) == before


@pytest.mark.parametrize("seed", range(6))
def test_no_command_fails_otherwise_than_with_a_sentence_on_a_damaged_run(whole, seed, capsys, tmp_path):
    place(flipped(whole, random.Random(100 + seed)))
    for arguments in (
        ["features", BAD],
        ["effects", BAD],
        ["refit", BAD, "--permutations", "19"],
        ["report", BAD, "--out", str(tmp_path / "x.html")],
        ["convergence", BAD],
    ):
        status = main.main([*arguments, "--quiet"])
        said = capsys.readouterr()
        assert status in (0, 1)
        assert "Traceback" not in said.err
        assert (status == 0) == ("error: " not in said.err)


def test_a_damaged_private_file_is_put_aside_and_the_work_goes_on_from_the_good_one(whole, good, caplog):
    before = everything(good)
    damaged = damaged_block(whole)
    place(damaged, database.PRIVATE, GOOD)
    with writing.Writer(GOOD) as writer:
        assert writer.query("SELECT run FROM runs")["run"].tolist() == [GOOD]
    (aside,) = (run_folder.runs_dir() / GOOD).glob("writing.damaged-*.duckdb")
    assert "renamed to" in caplog.text
    assert str(aside) in caplog.text
    assert everything(good) == before


@pytest.mark.parametrize("seed", range(8))
def test_a_failing_refit_never_replaces_the_good_run(whole, good, seed):
    rng = random.Random(200 + seed)
    mine = run_folder.database_path(good).read_bytes()
    before = everything(good)
    place(flipped(mine, rng) if seed % 2 else mine[: rng.randrange(len(mine))], database.PRIVATE, GOOD)
    collecting.refit(GOOD, SETTINGS)
    after = everything(good)
    assert {name: after[name] for name in ("runs", "samples", "activations")} == {
        name: before[name] for name in ("runs", "samples", "activations")
    }
    assert reading.query(GOOD, "SELECT seed FROM fits")["seed"].tolist() == [1]


def test_a_damaged_log_beside_the_private_file_is_put_aside_with_it(good):
    mine = run_folder.database_path(good)
    place(mine.read_bytes(), database.PRIVATE, GOOD)
    place(b"no log of DuckDB's" * 100, database.PRIVATE + database.LOG, GOOD)
    with writing.Writer(GOOD) as writer:
        assert len(writer.query("SELECT * FROM fits")) == 1
    assert not (mine.parent / (database.PRIVATE + database.LOG)).exists()


def test_damage_that_is_met_while_writing_is_said_and_not_published(good):
    path = run_folder.database_path(good)
    before = path.read_bytes()
    with pytest.raises(CorrSteerError, match="renamed to .*; run the same command again"), writing.Writer(GOOD):
        raise duckdb.Error("Corrupt database file: computed checksum 1 does not match stored checksum 2 in block 3")
    assert path.read_bytes() == before
    collecting.refit(GOOD, SETTINGS)


def test_a_damaged_run_is_not_called_open_in_another_program_because_of_a_word(tmp_path):
    path = tmp_path / "run.duckdb"
    path.write_bytes(b"x")
    said = problems.unreadable(path, duckdb.Error("Corrupt: the block is locked by no lock"))
    assert isinstance(said, problems.DamagedError)
    said = problems.unreadable(path, duckdb.OutOfMemoryException("failed to allocate a block"))
    assert "too little memory" in str(said)
    assert not isinstance(said, problems.DamagedError)
    said = problems.unreadable(tmp_path / "gone.duckdb", duckdb.IOException("x"))
    assert "was removed" in str(said)


# --- failures and interrupts ---------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, CorrSteerError])
def test_a_writer_that_is_left_by_an_error_publishes_nothing_and_keeps_what_was_committed(good, error):
    path = run_folder.database_path(good)
    before = path.read_bytes()
    row = {"name": "mine", "strategy": "hand", "created": database.now(), "body": "{}"}

    def fails() -> None:
        with writing.Writer(GOOD) as writer:
            writer.add("sets", pd.DataFrame([row]))
            raise error

    with pytest.raises(error):
        fails()
    assert path.read_bytes() == before
    with writing.Writer(GOOD) as writer:
        assert writer.query("SELECT name FROM sets")["name"].tolist() == ["mine"]
    assert measurements.sets(GOOD)["name"].tolist() == ["mine"]


@pytest.mark.parametrize("at", range(3))
def test_a_fit_that_is_interrupted_leaves_the_one_before_whole(good, monkeypatch, at):
    before = everything(good)
    calls = []
    replace = writing.Writer.replace

    def interrupted(self, table, frame):
        replace(self, table, frame)
        calls.append(table)
        if len(calls) == at + 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writing.Writer, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            collecting.refit(GOOD, FitSettings(floor=1, permutations=25, seed=9))
    with writing.Writer(GOOD):
        pass
    assert everything(good) == before


def test_a_transaction_is_whole_also_within_another(good):
    row = {"name": "mine", "strategy": "hand", "created": database.now(), "body": "{}"}

    def fails(writer: writing.Writer) -> None:
        with writer.transaction():
            writer.add("sets", pd.DataFrame([row]))
            with writer.transaction():
                writer.replace("fits", pd.DataFrame([{"samples": 1}]))
            raise ZeroDivisionError

    with writing.Writer(GOOD) as writer:
        with pytest.raises(ZeroDivisionError):
            fails(writer)
        assert writer.query("SELECT * FROM sets").empty
        assert writer.query("SELECT samples FROM fits")["samples"].item() == fabricated.SPLITS["train"]
        with writer.transaction():
            writer.add("sets", pd.DataFrame([row]))
    assert measurements.sets(GOOD)["name"].tolist() == ["mine"]


# --- the disk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["create", "flush", "replace"])
def test_on_a_full_disk_the_cause_is_said_and_the_work_goes_on_when_there_is_room(good, monkeypatch, operation):
    before = everything(good)

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.disk, operation, full)
        with pytest.raises(CorrSteerError, match="No space left on device; make room"):
            collecting.refit(GOOD, SETTINGS)
    assert everything(good) == before
    collecting.refit(GOOD, SETTINGS)
    assert reading.query(GOOD, "SELECT seed FROM fits")["seed"].tolist() == [1]
    names = {path.name for path in (run_folder.runs_dir() / GOOD).iterdir()}
    assert names <= {run_folder.PUBLISHED, database.LOCK}


def test_what_a_full_disk_does_to_duckdb_is_told_by_trying(good, monkeypatch):
    monkeypatch.setattr(problems, "refused", lambda folder: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(CorrSteerError, match=r"could not be written to disk \(No space left on device\)"):
        with writing.Writer(GOOD):
            raise duckdb.IOException("Could not write file")
    with pytest.raises(CorrSteerError, match="because the disk is full"), reading.reading(GOOD):
        raise duckdb.IOException("Could not write file")


LIMITED = """
import resource, signal, sys
from corrsteer_core.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main.main(["refit", sys.argv[2], "--permutations", "19", "--quiet"]))
"""


def test_what_duckdb_cannot_fold_into_its_file_is_said_with_the_cause(good):
    before = everything(good)
    size = run_folder.database_path(good).stat().st_size
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), good], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert os.strerror(errno.EFBIG) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert everything(good) == before
    collecting.refit(GOOD, SETTINGS)


# --- folders and locks ---------------------------------------------------------------------------


def test_a_copied_run_is_shown_under_its_own_name_and_takes_nothing(good):
    shutil.copytree(run_folder.run_path(good), run_folder.runs_dir() / "mine")
    table = run_facts.runs()
    assert sorted(table["run"]) == ["mine", GOOD]
    assert table["problem"].isna().all()
    assert run_facts.facts("mine").run == "mine"
    before = everything("mine")
    with pytest.raises(CorrSteerError, match=f"holds the run {GOOD}, copied or renamed"):
        collecting.refit("mine", SETTINGS)
    assert everything("mine") == before
    assert not (run_folder.run_path("mine") / database.PRIVATE).exists()
    deleting.delete_run("mine")
    assert run_folder.run_names() == [GOOD]


@pytest.mark.parametrize("kind", ["loop", "dangling", "folder"])
def test_a_lock_that_is_none_stops_writing_with_a_sentence_and_reading_not_at_all(good, kind):
    lock = run_folder.run_path(good) / database.LOCK
    lock.unlink(missing_ok=True)
    if kind == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(lock if kind == "loop" else lock.parent / "nowhere" / "x")
    assert run_facts.runs()["problem"].isna().all()
    said = problem_of(lambda: collecting.refit(GOOD, SETTINGS))
    assert ("its lock" in said and "remove it" in said) or (kind == "dangling" and not said)
    assert len(run_facts.runs()) == 1


def test_an_interrupted_deletion_is_gone_from_the_list_and_finished_by_the_next(good, monkeypatch):
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_arguments, **_named: None)
    deleting.delete_run(good)
    assert run_folder.run_names() == []
    monkeypatch.undo()


def test_fits_floor_is_read_after_a_refit(good):
    collecting.refit(GOOD, FitSettings(floor=7, permutations=19))
    with reading.Reader(GOOD) as opened:
        assert fit.fitted_floor(opened) == 7
