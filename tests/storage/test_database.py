"""The run's file: batch by batch, whole or not at all, and nobody locked out."""

import json
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest

from corrsteer_core.base import uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import fit, measurements
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.storage import database, deleting, reading, run_folder, schema, writing
from corrsteer_core.tasks import Item

ROOT = Path(__file__).parents[2]
CONFIG = RunConfig(
    task="sentiment",
    model="tiny",
    model_fingerprint="abc",
    dtype="float32",
    saes=(SaeRef(1, "random/1", "blocks.1.hook_resid_post", "f1", 8),),
    style=PromptStyle(chat=False),
    max_new_tokens=1,
)
ITEMS = [Item(f"s{place}", "train", f"prompt {place}", "Positive") for place in range(6)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    return tmp_path


def add(writer, names, outcome=1.0):
    rows = np.arange(len(names))
    active = {1: (rows, rows.astype(np.int32) + 2, (rows + 0.5).astype(np.float32))}
    writer.add_batch(names, ["out"] * len(names), [outcome] * len(names), [1] * len(names), active)


def test_samples_go_in_bit_by_bit_and_a_beginning_that_was_stopped_is_made_anew(monkeypatch):
    monkeypatch.setattr(writing, "TOGETHER", 2)
    insert, parts = writing.Writer._insert, []

    def stopping(self, table, frame, *more):
        if len(parts) == 2:
            raise KeyboardInterrupt
        parts.append(list(frame["sample"]))
        insert(self, table, frame, *more)

    monkeypatch.setattr(writing.Writer, "_insert", stopping)
    with pytest.raises(KeyboardInterrupt), writing.Writer("r") as writer:
        writer.begin(CONFIG, ITEMS, 4)
    assert parts == [["s0", "s1"], ["s2", "s3"]]
    monkeypatch.setattr(writing.Writer, "_insert", insert)
    with writing.Writer("r") as writer:
        assert writer.query("SELECT count(*) AS n FROM runs")["n"][0] == 0
        assert writer.begin(CONFIG, ITEMS[1:], 3) == 3
        assert writer.begin(CONFIG, ITEMS, 4) == 3, "it is begun"
    found = reading.query("r", "SELECT sample, prompt, target, item FROM samples ORDER BY sample")
    assert found["sample"].tolist() == [item.id for item in ITEMS[1:]]
    assert found["prompt"].tolist() == [item.prompt for item in ITEMS[1:]]
    assert set(found["target"]) == {"Positive"}
    assert json.loads(found["item"][0])["id"] == "s1"


def test_a_cache_may_have_any_name_and_nothing_is_left_where_the_command_was_given(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "o'brien's; \"cache\""))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with writing.Writer("r") as writer:
        writer.begin(CONFIG, ITEMS, 4)
        add(writer, ["s0"])
        (spilled,) = writer.query("SELECT current_setting('temp_directory') AS place")["place"]
        assert spilled == f"{writer.private}.tmp"
    assert reading.query("r", "SELECT count(outcome) AS n FROM samples")["n"][0] == 1
    assert list(Path().iterdir()) == []


def test_a_layer_is_read_in_chunks_as_it_is(monkeypatch):
    monkeypatch.setattr(fit, "CHUNK", 1)  # of 2,048
    rng = np.random.default_rng(0)
    items = [Item(f"{place:04}", "validation" if place % 5 == 0 else "train", "prompt") for place in range(900)]
    dense = (rng.random((900, 8)) * (rng.random((900, 8)) < 0.7)).astype(np.float32)
    rows, features = rng.permutation(np.argwhere(dense)).T
    active = {layer: (rows, features.astype(np.int32), dense[rows, features] * layer) for layer in (1, 2)}
    with writing.Writer("r") as writer:
        writer.begin(CONFIG, items, 4)
        writer.add_batch([item.id for item in items], [""] * 900, [1.0] * 900, [1] * 900, active)
        found = fit.training_activations(writer, 1, 8)
    train = dense[[item.split == "train" for item in items]]
    assert (train > 0).sum() > 2048
    assert found.dtype == np.float64
    assert found.has_canonical_format
    np.testing.assert_array_equal(found.toarray(), train)


def test_what_is_written_is_read_back():
    with writing.Writer("r") as writer:
        assert writer.begin(CONFIG, ITEMS, 4) == 4
        add(writer, ["s0", "s1"])
    found = reading.query("r", "SELECT sample, layer, feature, value FROM activations ORDER BY sample")
    assert found.values.tolist() == [["s0", 1, 2, 0.5], ["s1", 1, 3, 1.5]]
    samples = reading.query("r", "SELECT count(*) AS n, count(outcome) AS done FROM samples").iloc[0]
    assert (samples["n"], samples["done"]) == (6, 2)
    assert set(reading.query("r", "SELECT DISTINCT run FROM activations")["run"]) == {"r"}


def test_the_batch_size_of_the_first_start_holds():
    for size in (4, 9):
        with writing.Writer("r") as writer:
            assert writer.begin(CONFIG, ITEMS, size) == 4


def test_a_batch_that_fails_leaves_nothing():
    with writing.Writer("r") as writer:
        writer.begin(CONFIG, ITEMS, 4)
        with pytest.raises(duckdb.Error):
            writer.add_batch(["s0"], ["out"], [1.0], [1], {1: (np.array([0]), np.array(["x"]), np.array([1.0]))})
        add(writer, ["s1"])
    assert reading.query("r", "SELECT sample FROM samples WHERE outcome IS NOT NULL")["sample"].tolist() == ["s1"]
    assert reading.query("r", "SELECT sample FROM activations")["sample"].tolist() == ["s1"]


def test_a_second_writer_is_told():
    with writing.Writer("r") as writer:
        writer.begin(CONFIG, ITEMS, 4)
        with pytest.raises(CorrSteerError, match="being written by another process"), writing.Writer("r"):
            pass
        with pytest.raises(CorrSteerError, match="being written"):
            deleting.delete_run("r")
    deleting.delete_run("r")
    assert run_folder.run_names() == []


def test_a_short_write_waits_for_the_writer_before_it():
    order = []

    def late():
        with writing.Writer("r", wait=600) as writer:
            order.append("second")
            add(writer, ["s1"])

    with writing.Writer("r") as writer:
        writer.begin(CONFIG, ITEMS, 4)
        second = threading.Thread(target=late)
        second.start()
        second.join(0.3)
        assert second.is_alive()
        order.append("first")
        add(writer, ["s0"])
    second.join()
    assert order == ["first", "second"]
    assert done() == 2


def test_a_file_of_an_older_release_is_brought_up_to_date_when_it_is_read(monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(database, "MIGRATIONS", schema.MIGRATIONS[:3])
        with writing.Writer("r") as writer:
            writer.begin(CONFIG, ITEMS, 4)
            row = {"name": "V", "task": "t", "split": "test", "scale": 1.0, "created": database.now(), "samples": "[]"}
            writer.add("evaluations", pd.DataFrame([{**row, "summary": json.dumps({"n": 7})}]))
            set_row = {"name": "V", "strategy": "V", "created": database.now(), "body": json.dumps({"scale": 1.0})}
            writer.add("sets", pd.DataFrame([set_row]))
    (found,) = measurements.evaluations("r").itertuples()
    assert (found.label, found.content, found.n, found.own_scale) == ("V", "", 7, True)
    assert measurements.sets("r")["content"].isna().all()


def done(run="r"):
    return reading.query(run, "SELECT count(outcome) AS done FROM samples")["done"].item()


def write(*names, run="r"):
    with writing.Writer(run) as writer:
        writer.begin(CONFIG, ITEMS, 4)
        add(writer, names)


def test_what_is_read_is_the_newest_also_while_somebody_reads_the_version_before():
    write("s0")
    begun, read = threading.Event(), threading.Event()
    found = {}

    def slowly():
        with reading.Reader("r") as opened:
            begun.set()
            read.wait(600)
            found["slow"] = opened.query("SELECT count(outcome) AS done FROM samples")["done"].item()

    slow = threading.Thread(target=slowly)
    slow.start()
    assert begun.wait(600)
    write("s1")
    quick = threading.Thread(target=lambda: found.update(quick=done()))
    quick.start()
    quick.join(0.2)
    assert found == {}, "it waits, or DuckDB would give it the version before"
    read.set()
    slow.join(600)
    quick.join(600)
    assert found == {"slow": 1, "quick": 2}
    assert done() == 2


def test_a_reader_within_a_reader_sees_the_same_version_and_waits_for_nobody():
    write("s0")
    with reading.Reader("r"):
        write("s1")
        assert done() == 1
    assert done() == 2


def test_many_threads_read_runs_that_change():
    write("s0")
    write("s0", run="other")
    wrong = []

    def often(run):
        last = 0
        for _ in range(40):
            now = done(run)
            if now < last:
                wrong.append((run, last, now))
            last = now

    threads = [threading.Thread(target=often, args=(run,)) for run in ("r", "other") * 3]
    for thread in threads:
        thread.start()
    for name in ("s1", "s2", "s3"):
        write(name)
    for thread in threads:
        thread.join(600)
        assert not thread.is_alive()
    assert wrong == []
    assert (done(), done("other")) == (4, 1)


def test_a_run_deleted_and_made_anew_is_read_anew():
    write("s0", "s1")
    assert done() == 2
    deleting.delete_run("r")
    with pytest.raises(CorrSteerError, match="There is no run 'r'"):
        done()
    write("s0")
    assert done() == 1


def from_upload(run: str) -> Path:
    """A run made from an uploaded file, with a set that was measured."""
    path = uploads.keep_upload("mine.jsonl", b"{}")
    with writing.Writer(run) as writer:
        writer.begin(replace(CONFIG, data=str(path.resolve())), ITEMS, 4)
    run_folder.measured_sets(run).mkdir(parents=True)
    (run_folder.measured_sets(run) / "v.json").touch()
    return path


def test_with_a_run_goes_what_was_kept_for_it_alone(cache):
    path = from_upload("r")
    assert from_upload("other") == path
    deleting.delete_run("r")
    assert not run_folder.measured_sets("r").exists()
    assert run_folder.measured_sets("other").exists()
    assert path.exists()
    deleting.delete_run("other")
    assert not path.exists()
    assert list((cache / "uploads").iterdir()) == []


@pytest.mark.parametrize(("state", "kept"), [("running", True), ("cancelled", True), ("finished", False)])
def test_a_file_that_a_job_may_still_read_is_kept(monkeypatch, state, kept):
    path = from_upload("r")
    arguments = ("fit", "--scorer=exact", f"--data={path}")
    monkeypatch.setattr(deleting.jobs, "jobs", lambda: [SimpleNamespace(state=state, arguments=arguments)])
    deleting.delete_run("r")
    assert path.exists() == kept


def test_a_file_that_a_damaged_run_may_need_and_a_file_elsewhere_are_kept(tmp_path):
    path = from_upload("r")
    broken = run_folder.runs_dir() / "broken-1"
    broken.mkdir()
    (broken / run_folder.PUBLISHED).write_bytes(b"no database")
    deleting.delete_run("r")
    deleting.delete_run("broken-1")
    assert path.exists()
    mine = tmp_path / "mine.jsonl"
    mine.touch()
    with writing.Writer("r") as writer:
        writer.begin(replace(CONFIG, data=str(mine)), ITEMS, 4)
    deleting.delete_run("r")
    assert mine.exists()


WRITER = """
import sys, time
sys.path.insert(0, {root!r})
from tests.storage.test_database import CONFIG, ITEMS, add
from corrsteer_core.storage import writing
with writing.Writer("r") as writer:
    writer.begin(CONFIG, ITEMS, 1)
    for item in ITEMS:
        add(writer, [item.id])
        writer.publish(now=True)
        print("batch", flush=True)
        sys.stdin.readline()
"""


def writing_process(tmp_path):
    code = textwrap.dedent(WRITER.format(root=str(ROOT)))
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
print("open", flush=True)
sys.stdin.readline()
print(connection.execute("SELECT count(outcome) FROM samples").fetchone()[0], flush=True)
"""


def test_readers_and_a_writer_in_other_processes_never_lock_each_other_out(tmp_path):
    process = writing_process(tmp_path)
    holder = None
    for expected in range(1, len(ITEMS) + 1):
        assert process.stdout.readline() == "batch\n"
        counted = reading.query("r", "SELECT count(outcome) AS n FROM samples")["n"][0]
        assert counted == expected, "a reader sees every batch while the writer still runs"
        if holder is None:  # someone's open connection, as in a notebook, must not stop the writer
            arguments = [sys.executable, "-c", HOLDER, str(run_folder.database_path("r"))]
            holder = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert holder.stdout.readline() == "open\n"
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.wait(timeout=600) == 0
    out, _ = holder.communicate("\n", timeout=600)
    assert out == "1\n", "its file stays whole"


@pytest.mark.parametrize("batches", [1, 3])
def test_a_killed_writer_loses_no_finished_batch(tmp_path, batches):
    process = writing_process(tmp_path)
    for _ in range(batches):
        process.stdout.readline()
        if _ < batches - 1:
            process.stdin.write("\n")
            process.stdin.flush()
    process.kill()
    process.wait(timeout=600)
    with writing.Writer("r") as writer:
        done = writer.query("SELECT sample FROM samples WHERE outcome IS NOT NULL ORDER BY sample")["sample"].tolist()
        assert done == [item.id for item in ITEMS[:batches]]
        for item in ITEMS[batches:]:
            add(writer, [item.id])
    assert reading.query("r", "SELECT count(outcome) AS n FROM samples")["n"][0] == len(ITEMS)
    assert reading.query("r", "SELECT count(*) AS n FROM activations")["n"][0] == len(ITEMS)


@pytest.mark.parametrize("damage", [b"", b"not a database", None])
def test_a_damaged_file_is_said_and_left_alone(damage, cache):
    with writing.Writer("r") as writer:
        writer.begin(CONFIG, ITEMS, 4)
    with writing.Writer("other") as writer:
        writer.begin(CONFIG, ITEMS, 4)
    path = run_folder.database_path("r")
    whole = path.read_bytes()
    damaged = whole[: len(whole) // 2] if damage is None else damage
    path.write_bytes(damaged)
    if damage == b"not a database":  # DuckDB opens an empty or a cut-off file, and fails where it reads
        with pytest.raises(CorrSteerError, match="cannot be read"), writing.Writer("r"):
            pass
    with pytest.raises(CorrSteerError, match="cannot be read .* delete the folder"):
        reading.query("r", "SELECT * FROM samples")
    assert path.read_bytes() == damaged
    assert len(reading.query("other", "SELECT * FROM samples")) == len(ITEMS)


def test_a_run_that_is_open_elsewhere_is_not_called_damaged(cache):
    with writing.Writer("r") as writer:
        writer.begin(CONFIG, ITEMS, 4)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", code, str(run_folder.database_path("r"))]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        reading._opened.close()
        with pytest.raises(CorrSteerError, match="open for writing in another program") as said:
            reading.query("r", "SELECT 1")
        other.communicate("")
    assert "delete" not in str(said.value)
    assert len(reading.query("r", "SELECT * FROM samples")) == len(ITEMS)


@pytest.mark.parametrize("name", ["../r", "", ".", "..", "/etc", "a/b", "nowhere"])
def test_names_that_are_no_run_reach_no_file(name, cache):
    with pytest.raises(CorrSteerError, match="There is no run"):
        run_folder.run_path(name)


def test_replace_and_add_by_key():
    row = {"name": "V", "strategy": "V", "created": pd.Timestamp("2026-01-01"), "body": "{}"}
    with writing.Writer("r") as writer:
        writer.begin(CONFIG, ITEMS, 4)
        writer.add("sets", pd.DataFrame([row]))
        writer.add("sets", pd.DataFrame([{**row, "strategy": "hand"}]))
        with pytest.raises(ValueError, match="no table"):
            writer.add("sets; DROP TABLE samples", pd.DataFrame([row]))
    assert reading.query("r", "SELECT strategy FROM sets")["strategy"].tolist() == ["hand"]


def test_publishing_takes_a_bounded_share_of_the_time(monkeypatch):
    """Publishing after every batch would cost time quadratic in their number."""
    with writing.Writer("r") as writer:
        writer.begin(CONFIG, ITEMS, 4)
        writer._publish_cost = 1000.0
        copies = []
        monkeypatch.setattr(writing, "copy_whole", lambda *paths: copies.append(paths))
        writer.publish()
        assert copies == []
        writer.publish(now=True)
        assert len(copies) == 1


def test_what_duckdb_remembers_of_a_file_does_not_grow_with_it():
    held = []
    with writing.Writer("long") as store:
        for start in range(0, 200_000, 20_000):
            rows = pd.DataFrame({"sample": [f"{place:09d}" for place in range(start, start + 20_000)], "value": 1.0})
            with store.transaction():
                store._insert("activations", rows)
            database.checkpoint(store.connection)
            ((kept,),) = store.connection.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()
            held.append(kept)
        assert len(store.query("SELECT DISTINCT sample FROM activations")) == 200_000
        ((limit,),) = store.connection.execute("SELECT current_setting('memory_limit')").fetchall()
        assert "GiB" in limit, "the limit is the machine's again"
    assert max(held) < 2**21
