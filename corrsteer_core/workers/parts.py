"""Finished batches of a job as files: whoever asks for the same job again goes on from them.

A file is named after its batch and the hash of its content, so that a torn or damaged one is known and computed again.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from corrsteer_core.base.files import not_written, write_bytes, write_text
from corrsteer_core.base.paths import cache_dir

_NAMED = re.compile(r"(?P<unit>\d{6})-(?P<digest>[0-9a-f]{16})\.parquet")
_MARK = "job"
FORGOTTEN = 7 * 24 * 3600.0
"""Seconds after which the parts of a job that nobody went on with are removed."""


def as_parquet(table: pa.Table) -> bytes:
    """A table as the content of a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def from_parquet(data: bytes) -> pa.Table:
    """The table that `as_parquet` wrote."""
    return pq.read_table(io.BytesIO(data))


def digest_of(data: bytes) -> str:
    """16 hex digits."""
    return hashlib.sha256(data).hexdigest()[:16]


def parts_dir() -> Path:
    """Where the parts of all jobs lie."""
    return cache_dir().resolve() / "parts"


class Parts:
    """The finished batches ("units") of one job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def begun(cls, job: str) -> Parts:
        """Of the job of this name, as far as it was. Raises CorrSteerError where the folder cannot be written."""
        remove_forgotten()
        folder = parts_dir() / job
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / _MARK, secrets.token_hex(8))
        except OSError as error:
            raise not_written("What workers have finished", folder, error) from error
        return cls(folder)

    @property
    def mark(self) -> str:
        """A word by which another machine knows that it sees this very folder; "" where there is none."""
        with suppress(OSError):
            return (self.folder / _MARK).read_text(encoding="utf-8")
        return ""

    def there(self) -> dict[int, Path]:
        """The units with a file, not yet looked into."""
        found = ((_NAMED.fullmatch(path.name), path) for path in self.folder.iterdir())
        return {int(named["unit"]): path for named, path in found if named}

    def write(self, unit: int, data: bytes) -> str:
        """Keep a unit's file; returns its digest. Raises OSError."""
        digest = digest_of(data)
        write_bytes(self.path(unit, digest), data)
        return digest

    def path(self, unit: int, digest: str) -> Path:
        """Where a unit's file lies."""
        return self.folder / f"{unit:06d}-{digest}.parquet"

    def read(self, path: Path) -> bytes | None:
        """A unit's file; None, and the file is gone, if it is not what its name says."""
        with suppress(OSError):
            data = path.read_bytes()
            named = _NAMED.fullmatch(path.name)
            if named and named["digest"] == digest_of(data):
                return data
        path.unlink(missing_ok=True)
        return None

    def remove(self) -> None:
        """All of them, once the job is done and what came of it is stored."""
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_forgotten() -> None:
    """Remove the parts of jobs that nobody has gone on with for a week."""
    with suppress(OSError):
        for folder in parts_dir().iterdir():
            if folder.is_dir() and time.time() - folder.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(folder, ignore_errors=True)
