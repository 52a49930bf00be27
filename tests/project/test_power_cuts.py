"""The campaign's power cuts find what was not flushed, and nothing where all was."""

from __future__ import annotations

import pytest

from campaign.power_cut import NotingDisk, lost
from corrsteer_core.base import files


@pytest.fixture
def disk(monkeypatch):
    noting = NotingDisk()
    monkeypatch.setattr(files, "disk", noting)
    return noting


def wrong(disk):
    return [one for one in lost(disk, seed=0) if one]


@pytest.mark.parametrize("there", [True, False])
def test_what_the_project_writes_is_whole_after_any_cut_and_there_after_the_last(disk, tmp_path, there):
    target = tmp_path / "x.json"
    if there:
        target.write_bytes(b"old")
    files.write_bytes(target, b"new " * 1000)
    files.copy(target, tmp_path / "copy")
    files.write_all_new({tmp_path / "a": b"1" * 100, tmp_path / "b": b"2" * 100})
    assert len(list(lost(disk, seed=0))) > 30
    assert wrong(disk) == []


def test_a_file_that_is_not_flushed_may_be_torn(disk, tmp_path):
    files.write_bytes(tmp_path / "x", b"new " * 1000, lasting=False)
    assert any("'x'" in one for one in wrong(disk))


def test_a_name_whose_folder_is_not_flushed_may_be_lost(disk, tmp_path, monkeypatch):
    monkeypatch.setattr(NotingDisk, "flush_folder", lambda self, folder: None)
    files.write_bytes(tmp_path / "x", b"new")
    assert wrong(disk)
    assert all(one.startswith(f"after operation {len(disk.noted)}") for one in wrong(disk)), "lost, but never torn"


def test_a_file_that_is_renamed_before_it_is_flushed_may_be_torn(disk, tmp_path):
    scratch = tmp_path / "scratch"
    with disk.create(scratch) as file:
        file.write(b"new " * 1000)
        disk.replace(scratch, tmp_path / "x")
        disk.flush_folder(tmp_path)
    assert wrong(disk)


def folder_of(files_in, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for name, content in files_in.items():
        (scratch / name).write_bytes(content)
    return scratch


def test_a_folder_that_is_moved_is_whole_file_by_file(disk, tmp_path):
    files.move_folder(folder_of({"a": b"1" * 100, "b": b"2" * 100}, tmp_path), tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"a", "b"}
    assert wrong(disk) == []


def test_a_folder_whose_files_are_not_flushed_may_be_torn(disk, tmp_path, monkeypatch):
    scratch = folder_of({"a": b"1" * 100}, tmp_path)
    disk.replace(scratch, tmp_path / "model")
    disk.flush_folder(tmp_path)
    assert wrong(disk)
