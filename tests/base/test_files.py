"""Files are written whole or not at all, whatever fails, and what killed processes leave goes away."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from corrsteer_core.base import files
from tests.made.places import ROOT

OLD, NEW = b"old" * 10_000, b"new!" * 20_000
OPERATIONS = ("create", "flush", "replace", "link", "flush_folder")


class FailingDisk(files.Disk):
    """A disk of which one kind of operation fails."""

    def __init__(self, failing: str, code: int) -> None:
        self.failing, self.code = failing, code

    def __getattribute__(self, name: str):
        if name in OPERATIONS and name == object.__getattribute__(self, "failing"):
            code = object.__getattribute__(self, "code")

            def fails(*_arguments: object) -> None:
                raise OSError(code, os.strerror(code))

            return fails
        return super().__getattribute__(name)


def only(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_a_file_is_written_and_replaced_with_its_mode(tmp_path):
    path = tmp_path / "x"
    files.write_text(path, "ä\r\n")
    assert path.read_bytes() == "ä\r\n".encode()
    path.chmod(0o640)
    files.write_bytes(path, NEW)
    assert path.read_bytes() == NEW
    assert path.stat().st_mode & 0o777 == 0o640
    assert only(tmp_path, "x")


@pytest.mark.parametrize("operation", ["create", "flush", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_what_fails_leaves_the_old_file_and_names_the_file_that_was_meant(tmp_path, monkeypatch, operation, code):
    path = tmp_path / "x"
    path.write_bytes(OLD)
    monkeypatch.setattr(files, "disk", FailingDisk(operation, code))
    with pytest.raises(OSError) as raised:
        files.write_bytes(path, NEW)
    assert (raised.value.errno, raised.value.filename) == (code, str(path))
    assert path.read_bytes() == OLD
    assert only(tmp_path, "x")


def test_an_error_in_the_middle_of_a_streamed_file_leaves_the_old_one(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(OLD)

    def half_written() -> None:
        with files.replacing(path) as file:
            file.write(NEW[:100])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_written()
    assert path.read_bytes() == OLD
    assert only(tmp_path, "x")


def test_the_file_and_its_folder_are_flushed_before_and_after_it_gets_its_name(tmp_path, monkeypatch):
    seen: list[str] = []

    class Watched(files.Disk):
        def flush(self, file):
            super().flush(file)
            seen.append("file")

        def replace(self, source, target):
            super().replace(source, target)
            seen.append("rename")

        def link(self, source, target):
            super().link(source, target)
            seen.append("link")

        def flush_folder(self, folder):
            super().flush_folder(folder)
            seen.append("folder")

    monkeypatch.setattr(files, "disk", Watched())
    files.write_bytes(tmp_path / "x", NEW)
    assert seen == ["file", "rename", "folder"]
    seen.clear()
    files.write_all_new({tmp_path / "y": OLD, tmp_path / "z": NEW})
    assert seen == ["file", "file", "link", "link", "folder"]
    seen.clear()
    files.write_bytes(tmp_path / "x", NEW, lasting=False)
    assert seen == ["rename"]


def test_new_files_come_all_or_none_and_never_over_another(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    two.write_bytes(OLD)
    with pytest.raises(FileExistsError) as raised:
        files.write_all_new({one: NEW, two: NEW})
    assert raised.value.filename == str(two)
    assert two.read_bytes() == OLD
    assert only(tmp_path, "two")
    two.unlink()
    files.write_all_new({one: NEW, two: OLD})
    assert (one.read_bytes(), two.read_bytes()) == (NEW, OLD)
    assert only(tmp_path, "one", "two")


@pytest.mark.parametrize("operation", ["create", "flush", "link", "flush_folder"])
def test_new_files_that_fail_leave_nothing(tmp_path, monkeypatch, operation):
    monkeypatch.setattr(files, "disk", FailingDisk(operation, errno.EIO))
    with pytest.raises(OSError):
        files.write_all_new({tmp_path / "one": NEW, tmp_path / "two": NEW})
    assert only(tmp_path)


def test_new_files_are_written_where_a_file_can_have_one_name_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "disk", FailingDisk("link", errno.EPERM))
    files.write_all_new({tmp_path / "one": NEW})
    assert (tmp_path / "one").read_bytes() == NEW
    with pytest.raises(FileExistsError):
        files.write_all_new({tmp_path / "one": OLD})
    assert (tmp_path / "one").read_bytes() == NEW
    assert only(tmp_path, "one")


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path):
    (tmp_path / "real").write_bytes(OLD)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write_bytes(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == NEW
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    files.write_bytes(tmp_path / "pipe", NEW)
    reader.join(30)
    assert read == [NEW]
    files.write_bytes(Path(os.devnull), NEW)
    assert not Path(os.devnull).is_file()


KILLED = """
import os, sys
from pathlib import Path
from corrsteer_core.base import files
folder = Path(sys.argv[1])
(files.scratch_path(folder)).mkdir()
with files.replacing(folder / "x") as file:
    file.write(b"n" * 1_000_000)
    file.flush()
    print("half", flush=True)
    sys.stdin.readline()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_one_and_what_a_living_one_writes_is_not(tmp_path):
    (tmp_path / "x").write_bytes(OLD)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == b"half\n"
    killed, living = processes
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    mine = tmp_path / "notes.12345.tmp"
    mine.touch()
    files.write_bytes(tmp_path / "y", NEW)
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert len(left) == 2
    assert all(f".{living.pid}." in name for name in left)
    assert (tmp_path / "x").read_bytes() == OLD
    living.communicate(b"\n", timeout=60)
    assert (tmp_path / "x").read_bytes() == b"n" * 1_000_000
    files.remove_leftovers(tmp_path)
    assert only(tmp_path, "x", "y", mine.name)


READER = """
import sys
from pathlib import Path
path, seen = Path(sys.argv[1]), set()
print("go", flush=True)
while True:
    text = path.read_bytes()
    seen.add((len(text), text[:1]))
    if text == b"end":
        break
print(sorted(seen))
"""


def test_who_reads_meanwhile_sees_one_whole_file_or_another(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(OLD)
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert reader.stdout.readline() == "go\n"
    for _ in range(100):
        files.write_bytes(path, NEW)
        files.write_bytes(path, OLD)
    files.write_bytes(path, b"end")
    said, problem = reader.communicate(timeout=120)
    assert not problem
    assert set(eval(said)) <= {(len(OLD), b"o"), (len(NEW), b"n"), (3, b"e")}


def test_why_a_folder_takes_nothing_is_told_by_trying(tmp_path):
    assert files.refused(tmp_path) is None
    (tmp_path / "file").touch()
    assert files.refused(tmp_path / "file").errno == errno.ENOTDIR
    assert only(tmp_path, "file")
    said = files.not_written("The set", tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    assert "No space left on device; make room there" in str(said)


def test_a_scratch_folder_is_gone_afterwards_unless_it_got_a_name(tmp_path):
    with files.scratch_folder(tmp_path) as folder:
        (folder / "x").touch()
    assert only(tmp_path)
    with files.scratch_folder(tmp_path) as folder:
        folder.rename(tmp_path / "kept")
    assert only(tmp_path, "kept")
    files.remove_folder(tmp_path / "kept")
    assert only(tmp_path)
