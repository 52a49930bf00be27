"""Files given to the app: kept as what they are, and spoken of by the names that their users gave them."""

import gzip
import json
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from corrsteer_core.base import jobs, uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.uploads import keep_upload, known_as
from corrsteer_core.storage import upload_room
from corrsteer_core.tasks import custom_task, load_items
from corrsteer_core.tasks.rows import KINDS

ROWS = [{"prompt": "one", "target": "1"}, {"prompt": "two", "target": "2"}, {"prompt": "three", "target": "3"}]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def in_every_kind(folder) -> dict[str, bytes]:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "x.parquet")
    return {
        "x.jsonl": lines,
        "X.JSON": json.dumps(ROWS).encode(),
        "x.ndjson": lines,
        "x.csv": b"prompt,target\none,1\ntwo,2\nthree,3\n",
        "x.parquet": (folder / "x.parquet").read_bytes(),
        "my x (2).jsonl.gz": gzip.compress(lines, mtime=0),
        "x.json.gz": gzip.compress(json.dumps(ROWS).encode(), mtime=0),
    }


def test_the_endings_are_those_that_tasks_read():
    assert uploads.ENDINGS == KINDS


def test_a_file_of_every_kind_is_read_as_what_it_is(tmp_path):
    for name, content in in_every_kind(tmp_path).items():
        items = load_items(custom_task("exact", keep_upload(name, content)))
        assert [item.prompt for item in items] == ["one", "two", "three"], name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd.jsonl"),
        ("data.csv.exe", "data.jsonl"),
        ("C:\\data\\Mine.CSV", "mine.csv"),
        ("a.tar.gz", "a.jsonl.gz"),
        (".json", "data.json"),
    ],
)
def test_only_harmless_endings_are_kept(cache, name, kept):
    path = keep_upload(name, b"x")
    assert path.name == kept
    assert path.parent.parent == cache / "uploads"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("Mine.json", b'[{"prompt": "p", "target": "t"}, {"target": "t"}]', "Row 2 of mine.json has no 'prompt'"),
        ("Mine.json", b"[1", "The data file mine.json is not valid JSON"),
        ("Mine.jsonl", b'{"prompt": "p", "target": "t"}\n[]\n', "Line 2 of mine.jsonl is not a JSON object"),
        ("Mine.csv", b"prompt,target\n,x\n", "Line 2 of mine.csv has no 'prompt'"),
        ("Mine.csv", b'prompt\n"open\n', "of mine.csv is not valid CSV"),
        ("Mine.csv", b"prompt\n\xff\n", "The data file mine.csv is not UTF-8 text"),
        ("Mine.csv", b"prompt,target\n", "The data file mine.csv holds no rows"),
        ("Mine.parquet", b"x", "The data file mine.parquet is not a readable Parquet file"),
        ("Mine.csv.gz", b"x", "The data file mine.csv.gz is not a whole gzip file"),
    ],
)
def test_what_is_wrong_is_said_of_the_file_by_its_name(cache, name, content, said):
    with pytest.raises(CorrSteerError, match=said) as problem:
        load_items(custom_task("exact", keep_upload(name, content)))
    assert str(cache) not in str(problem.value)


def test_a_file_that_is_read_once_is_gone_afterwards(cache):
    kept = keep_upload("a.json", b"x")
    with uploads.passing("../A b.JSON", b"x") as path:
        assert path.read_bytes() == b"x"
        assert known_as(path) == "a-b.json"
    assert list((cache / "uploads").iterdir()) == [kept.parent]
    with pytest.raises(CorrSteerError, match="is empty"), uploads.passing("a.json", b" "):
        pass


def test_other_files_are_known_by_their_paths(tmp_path):
    assert known_as(tmp_path / "x.csv") == str(tmp_path / "x.csv")


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "file"))
    with pytest.raises(CorrSteerError, match="could not be written to .*: Not a directory"):
        keep_upload("x.csv", b"prompt\n")


def test_a_file_that_unpacks_to_more_than_it_may_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("corrsteer_core.tasks.rows.LARGEST", 1_000)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"prompt\n" + b"x" * 2_000, mtime=0))
    with pytest.raises(CorrSteerError, match="more than 1,000 bytes"):
        load_items(custom_task("refusal", tmp_path / "x.csv.gz"))


# --- how much is kept ----------------------------------------------------------------------------


def test_a_small_upload_that_unpacks_to_more_than_is_taken_is_refused_before_it_is_kept(cache, monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST_UNPACKED", 10_000)
    monkeypatch.setattr(uploads, "_UNPACKED_AT_ONCE", 1_000)
    with pytest.raises(CorrSteerError, match="unpacks to more than 10,000 bytes"):
        keep_upload("x.csv.GZ", gzip.compress(bytes(10_001), mtime=0))
    assert not (cache / "uploads").exists()
    assert keep_upload("x.csv.gz", gzip.compress(b"p" * 10_000, mtime=0)).exists()
    assert keep_upload("x.csv.gz", gzip.compress(b"p" * 9_999, mtime=0)[:-6]).exists(), (
        "its rows are told to be damaged"
    )


def aged(name: str, size: int, days: float) -> Path:
    """An upload that was given so long ago."""
    path = keep_upload(name, name.encode().ljust(size, b"."))
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


def test_uploads_that_nobody_reads_go_after_a_month(cache):
    old, young = aged("old.csv", 300, 31), aged("young.csv", 300, 29)
    said = upload_room.make_room(10)
    assert said == "To make room, 1 earlier upload (300 bytes) that no run or job reads was removed."
    assert (old.exists(), young.exists()) == (False, True)
    assert upload_room.make_room(10) == ""


def test_an_upload_that_is_given_again_is_young_again(cache):
    old = aged("old.csv", 300, 31)
    keep_upload("old.csv", old.read_bytes())
    assert upload_room.make_room(10) == ""
    assert old.exists()


def test_the_oldest_go_where_all_would_take_too_much_but_never_one_that_is_read(cache, monkeypatch):
    monkeypatch.setattr(upload_room, "MOST_IN_ALL", 1_000)
    needed, oldest, other = aged("needed.csv", 300, 50), aged("a.csv", 300, 3), aged("b.csv", 300, 2)
    just_now = keep_upload("now.csv", b"x" * 50)
    monkeypatch.setattr(upload_room, "wanted", lambda data: data == str(needed))
    assert "2 earlier uploads (600 bytes)" in upload_room.make_room(500)
    assert [path.exists() for path in (needed, oldest, other, just_now)] == [True, False, False, True]
    with pytest.raises(CorrSteerError, match="uploads would take 1,050 bytes; at most 1,000 are kept: delete runs"):
        upload_room.make_room(700)
    assert needed.exists()


def test_a_job_that_has_not_ended_keeps_its_file(cache):
    path = aged("data.csv", 300, 99)
    folder = cache / "jobs" / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    about = {"title": "t", "arguments": ["fit", f"--data={path}"], "started": "2026-01-01T00:00:00+00:00"}
    (folder / "log").touch()
    (folder / "job.json").write_text(json.dumps(about))
    assert upload_room.make_room(10) == ""
    assert path.exists()
    jobs.forget(folder.name)
    assert upload_room.make_room(10)
    assert not path.exists()


def form() -> None:
    from app.start import page

    page.page()


def scorer(test: AppTest):
    return next(box for box in test.selectbox if box.label == "What counts as success")


def test_the_form_takes_every_kind_and_starts_on_it_as_what_it_is(cache, tmp_path, monkeypatch):
    started: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda arguments, title: started.append(list(arguments)))
    for name, content in in_every_kind(tmp_path).items():
        test = AppTest.from_function(form, default_timeout=600)
        test.run().button_group(key="new_run_kind").set_value("My own file").run()
        test.file_uploader(key="new_run_file").upload(name, content, "application/octet-stream").run()
        scorer(test).set_value("contains")  # any target will do
        next(button for button in test.button if button.label == "Start").click().run()
        assert not test.exception
        (data,) = (Path(part.removeprefix("--data=")) for part in started.pop() if part.startswith("--data="))
        assert data.read_bytes() == content
        assert data.is_relative_to(cache / "uploads")
        assert name.lower().endswith("".join(data.suffixes))


def test_the_form_says_what_it_removed_to_make_room(cache, monkeypatch):
    monkeypatch.setattr(jobs, "start", lambda arguments, title: "20260101-000000-abcdef")
    aged("old.csv", 300, 31)
    test = AppTest.from_function(form, default_timeout=600)
    test.run().button_group(key="new_run_kind").set_value("My own file").run()
    test.file_uploader(key="new_run_file").upload("x.csv", b"prompt,target\none,1\n", "text/csv").run()
    scorer(test).set_value("contains")
    next(button for button in test.button if button.label == "Start").click().run()
    assert not test.exception
    assert "1 earlier upload (300 bytes)" in " ".join(one.value for one in test.caption)
