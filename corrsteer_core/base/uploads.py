"""Files that a user gives to the app, kept in the cache under names that can do no harm."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import not_written, remove_leftovers, scratch_path, write_bytes
from corrsteer_core.base.paths import cache_dir

LARGEST = 50_000_000  # bytes
ENDINGS = (".jsonl", ".json", ".ndjson", ".csv", ".parquet")
"""Those that say what a file is (what tasks read; a test holds the two equal). Each may be followed by .gz."""


def keep_upload(name: str, content: bytes) -> Path:
    """Write an uploaded file to the cache and return its path; the same content is kept once.

    Of the name only letters, digits and hyphens stay, and one of ENDINGS (.jsonl where it has none of them).
    Raises CorrSteerError for an empty or too large file, and where the cache cannot be written.
    """
    _check(content)
    with _writing():
        folder = _folder() / hashlib.sha256(content).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _harmless(name)
        if not _holds(path, content):
            write_bytes(path, content)
    return path


@contextmanager
def passing(name: str, content: bytes) -> Iterator[Path]:
    """An uploaded file that is read once: there while the context is open. Raises as `keep_upload` does."""
    _check(content)
    with _writing():
        _folder().mkdir(parents=True, exist_ok=True)
        remove_leftovers(_folder())
        folder = scratch_path(_folder())
        folder.mkdir()
    try:
        path = folder / _harmless(name)
        with _writing():
            write_bytes(path, content, lasting=False)
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a kept file; anything that is none, or is gone, is left alone."""
    if path.resolve().parent.parent == _folder().resolve():
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()  # where another name of the same content is kept, this fails


def known_as(path: Path) -> str:
    """A file as its user knows it: of an upload the name alone, since they never saw where it lies."""
    return path.name if path.is_relative_to(_folder()) else str(path)


def _folder() -> Path:
    return cache_dir() / "uploads"


def _check(content: bytes) -> None:
    if not content.strip():
        raise CorrSteerError("The uploaded file is empty; choose one that holds something.")
    if len(content) > LARGEST:
        raise CorrSteerError(f"The uploaded file has {len(content):,} bytes; at most {LARGEST:,} are taken.")


@contextmanager
def _writing() -> Iterator[None]:
    """Says in a sentence that the cache cannot be written."""
    try:
        yield
    except OSError as error:
        raise not_written("The uploaded file", _folder(), error) from error


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
