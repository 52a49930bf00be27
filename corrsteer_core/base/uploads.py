"""Files that a user gives to the app, kept in the cache under names that can do no harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from corrsteer_core.base import presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import not_written, remove_leftovers, scratch_path, write_bytes
from corrsteer_core.base.paths import cache_dir

LARGEST = 50_000_000  # bytes
LARGEST_UNPACKED = 500_000_000  # bytes: a small file can unpack to more than memory holds
_UNPACKED_AT_ONCE = 2**20
ENDINGS = (".jsonl", ".json", ".ndjson", ".csv", ".parquet")
"""Those that say what a file is (what tasks read; a test holds the two equal). Each may be followed by .gz."""


def keep_upload(name: str, content: bytes) -> Path:
    """Write an uploaded file to the cache and return its path; the same content is kept once.

    Of the name only letters, digits and hyphens stay, and one of ENDINGS (.jsonl where it has none of them).
    Raises CorrSteerError for an empty or too large file, and where the cache cannot be written.
    """
    _check(name, content)
    with _writing():
        place = folder() / hashlib.sha256(content).hexdigest()[:12]
        place.mkdir(parents=True, exist_ok=True)
        path = place / _harmless(name)
        if _holds(path, content):
            os.utime(path)  # given anew: its age begins again
        else:
            write_bytes(path, content)
    return path


@contextmanager
def passing(name: str, content: bytes) -> Iterator[Path]:
    """An uploaded file that is read once: there while the context is open. Raises as `keep_upload` does."""
    _check(name, content)
    with _writing():
        folder().mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder())
        scratch = scratch_path(folder())
        scratch.mkdir()
    try:
        path = scratch / _harmless(name)
        with _writing():
            write_bytes(path, content, lasting=False)
        yield path
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a kept file; anything that is none, or is gone, is left alone."""
    presenting.refuse("No file is removed")
    if path.resolve().parent.parent == folder().resolve():
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()  # where another name of the same content is kept, this fails


def known_as(path: Path) -> str:
    """A file as its user knows it: of an upload the name alone, since they never saw where it lies."""
    return path.name if path.is_relative_to(folder()) else str(path)


def folder() -> Path:
    """Where uploads are kept, each in a folder of its own."""
    return cache_dir() / "uploads"


def _check(name: str, content: bytes) -> None:
    presenting.refuse("No file is taken")
    if not content.strip():
        raise CorrSteerError("The uploaded file is empty; choose one that holds something.")
    if len(content) > LARGEST:
        raise CorrSteerError(f"The uploaded file has {len(content):,} bytes; at most {LARGEST:,} are taken.")
    if name.lower().endswith(".gz") and _unpacks_to_more(content):
        raise CorrSteerError(
            f"The uploaded file unpacks to more than {LARGEST_UNPACKED:,} bytes; give a part of it, or start the run from "
            f"the command line."
        )


def _unpacks_to_more(content: bytes) -> bool:
    """Whether a gzip file holds more than may be taken; a damaged one is told of when its rows are read."""
    size = 0
    try:
        with gzip.open(io.BytesIO(content)) as file:
            while part := file.read(_UNPACKED_AT_ONCE):
                size += len(part)
                if size > LARGEST_UNPACKED:
                    return True
    except (OSError, EOFError, zlib.error):
        return False
    return False


@contextmanager
def _writing() -> Iterator[None]:
    """Says in a sentence that the cache cannot be written."""
    try:
        yield
    except OSError as error:
        raise not_written("The uploaded file", folder(), error) from error


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file is there with this content; a damaged one is written again."""
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _harmless(name: str) -> str:
    name = re.split(r"[\\/]", name)[-1].lower()
    packed = ".gz" if name.endswith(".gz") else ""
    ending = next((one for one in ENDINGS if name.removesuffix(packed).endswith(one)), ENDINGS[0])
    stem = re.sub(r"[^a-z0-9]+", "-", name.partition(".")[0]).strip("-")[:40] or "data"
    return f"{stem}{ending}{packed}"
