"""The one way in which files are written: whole under their name or not at all, also after a power cut.

A file is written beside its place under a name of its own, flushed to the disk, and renamed over the
old one; then the folder is flushed too. Whoever reads sees the file before or after. What a killed
process leaves is removed by the next one that writes into the same folder.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import psutil

from corrsteer_core.base.errors import CorrSteerError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Codes of a disk, a quota or a file that is full."""
_HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:24] or "here"
_SCRATCH = re.compile(r"\.(?P<host>[A-Za-z0-9-]+)\.(?P<process>\d+)\.[0-9a-f]{8}\.tmp")
_NO_FOLDER_FLUSH = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM})
"""Codes with which a file system says that folders are not flushed there."""
_PROBE = 2**20  # bytes that a disk with room takes
_COPIED_AT_ONCE = 2**20


class Disk:
    """What is asked of the file system, in one place, so that tests can let each of it fail."""

    def create(self, path: Path) -> BinaryIO:
        """A new file, open for writing."""
        return path.open("xb")

    def flush(self, file: BinaryIO) -> None:
        """What was written is on the disk."""
        file.flush()
        os.fsync(file.fileno())

    def replace(self, source: Path, target: Path) -> None:
        """Rename, in place of what is there."""
        os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        """A second name for a file. Raises FileExistsError if it is taken."""
        os.link(source, target)

    def flush_folder(self, folder: Path) -> None:
        """The names in a folder are on the disk."""
        if os.name == "nt":
            return
        try:
            at = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(at)
            finally:
                os.close(at)
        except OSError as error:
            if error.errno not in _NO_FOLDER_FLUSH:
                raise


disk = Disk()


@contextmanager
def replacing(path: Path, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """A file to write into, which takes its place under `path` when the context is left; after an error nothing does.

    Without `lasting` nothing is flushed: for what is out of date a second later. Raises OSError.
    """
    if _is_device(path):
        with path.open("wb") as file:
            yield file
        return
    target = path.resolve() if path.is_symlink() else path
    remove_leftovers(target.parent)
    scratch = scratch_path(target.parent)
    try:
        with disk.create(scratch) as file:
            yield file
            if lasting:
                disk.flush(file)
        if target.is_file():
            shutil.copymode(target, scratch)
        disk.replace(scratch, target)
        if lasting:
            disk.flush_folder(target.parent)
    except OSError as error:
        raise _named(error, path) from error.__cause__
    finally:
        scratch.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, lasting: bool = True) -> None:
    """Write a file, in place of what is there. Raises OSError."""
    with replacing(path, lasting=lasting) as file:
        file.write(content)


def write_text(path: Path, text: str, *, lasting: bool = True) -> None:
    """Write a file of UTF-8 text, in place of what is there. Raises OSError."""
    write_bytes(path, text.encode(), lasting=lasting)


def copy(source: Path, target: Path) -> None:
    """A whole copy under the target's name, in place of what is there. Raises OSError."""
    with source.open("rb") as old, replacing(target) as new:
        shutil.copyfileobj(old, new, _COPIED_AT_ONCE)


def move(source: Path, target: Path) -> None:
    """Rename a file that another library wrote, flushed, in place of what is there. Raises OSError."""
    with source.open("rb+") as file:
        disk.flush(file)
    disk.replace(source, target)
    disk.flush_folder(target.parent)


def write_all_new(files: Mapping[Path, bytes]) -> None:
    """Write files that are not there yet: all of them or none. Raises FileExistsError for the first that is there."""
    made: list[Path] = []
    scratches: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            scratches[path] = scratch_path(path.parent)
            _write_scratch(path, scratches[path], content)
        for path, scratch in scratches.items():
            _take_name(scratch, path)
            made.append(path)
        for folder in {path.parent for path in files}:
            disk.flush_folder(folder)
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise
    finally:
        for scratch in scratches.values():
            scratch.unlink(missing_ok=True)


def _write_scratch(path: Path, scratch: Path, content: bytes) -> None:
    remove_leftovers(path.parent)
    try:
        with disk.create(scratch) as file:
            file.write(content)
            disk.flush(file)
    except OSError as error:
        raise _named(error, path) from None


def _take_name(scratch: Path, path: Path) -> None:
    """Give a finished file its name unless that is taken."""
    try:
        disk.link(scratch, path)
    except FileExistsError as error:
        raise _named(error, path) from None
    except OSError as error:
        if error.errno in NO_ROOM or error.errno in (errno.EIO, errno.ENAMETOOLONG):
            raise _named(error, path) from None
        with path.open("xb"):  # a file system without second names: the name is taken first, empty
            pass
        disk.replace(scratch, path)


# --- what is on its way --------------------------------------------------------------------------


def scratch_path(folder: Path) -> Path:
    """A name in a folder for something unfinished: it says whose it is, so that others know when nobody's."""
    return folder / f".{_HOST}.{os.getpid()}.{secrets.token_hex(4)}.tmp"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder for something unfinished, removed when the context is left, unless it was renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent)
    folder = scratch_path(parent)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_folder(source: Path, target: Path) -> None:
    """Rename a folder of files that other libraries wrote, flushed, to a name that is free. Raises OSError."""
    for path in sorted(source.iterdir()):
        with path.open("rb+") as file:
            disk.flush(file)
    disk.flush_folder(source)
    disk.replace(source, target)
    disk.flush_folder(target.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder as a whole: whoever looks meanwhile sees all of it or nothing. Raises OSError."""
    remove_leftovers(folder.parent)
    gone = scratch_path(folder.parent)
    folder.rename(gone)
    shutil.rmtree(gone)


def leftovers(folder: Path) -> list[Path]:
    """What processes of this machine that are gone left unfinished in a folder."""
    try:
        with os.scandir(folder) as found:
            return [Path(entry.path) for entry in found if _is_leftover(entry)]
    except OSError:
        return []


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that are gone left unfinished in a folder."""
    for path in leftovers(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # another one removes it just now
                path.unlink()


def _is_leftover(entry: os.DirEntry[str]) -> bool:
    named = _SCRATCH.fullmatch(entry.name)
    return bool(named and named["host"] == _HOST and not _lives(int(named["process"]), entry))


def _lives(process: int, entry: os.DirEntry[str]) -> bool:
    """Whether the process that made something is still there; the system uses numbers again."""
    try:
        return psutil.Process(process).create_time() <= entry.stat(follow_symlinks=False).st_mtime + 1
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return False
    except (psutil.Error, OSError):
        return True


# --- what the disk refuses -----------------------------------------------------------------------


def refused(folder: Path) -> OSError | None:
    """Why nothing can be written into a folder at the moment, found by trying; None if it can be."""
    scratch = scratch_path(folder)
    try:
        with scratch.open("xb") as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
    return None


def not_written(what: str, path: Path, error: OSError) -> CorrSteerError:
    """What to say where something could not be written: the cause, and what to do about it."""
    reason = error.strerror or str(error)
    if error.errno in NO_ROOM:
        return CorrSteerError(f"{what} could not be written to {path}: {reason}; make room there and try again.")
    return CorrSteerError(f"{what} could not be written to {path}: {reason}; check that this user may write there.")


def _is_device(path: Path) -> bool:
    """Whether a path leads to something that takes what is written and has no place: a pipe, a terminal."""
    if path.is_absolute() and path.parts[1:2] in (("dev",), ("proc",)):
        return True
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def _named(error: OSError, path: Path) -> OSError:
    """The same error, of the file that was meant instead of the unfinished one."""
    if error.errno is None:
        return error
    return OSError(error.errno, error.strerror or os.strerror(error.errno), str(path))
