"""A run's DuckDB file: opening, copying and locking it, and bringing its tables up to date.

DuckDB keeps every other process out of a file that one process holds for writing. So a writer
works on a private copy (`writing.duckdb`) and publishes it under the file that everybody reads
(`run.duckdb`) by renaming a finished copy over it: a reader has the file before or after, whole,
and holds no writer up. A writer that is killed leaves its private file, with every batch it had
committed, and the next writer goes on from there. `writer.lock` keeps a second writer out.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from filelock import FileLock, Timeout

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.storage.schema import MIGRATIONS

PRIVATE = "writing.duckdb"


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
    done = migrations_in(connection)
    for number, statements in enumerate(MIGRATIONS, 1):
        if number > done:
            connection.execute("BEGIN")
            connection.execute(statements)
            connection.execute("INSERT INTO migrations VALUES (?)", [number])
            connection.execute("COMMIT")


def migrations_in(connection: duckdb.DuckDBPyConnection) -> int:
    ((done,),) = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchall()
    return done


def connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    try:
        connection = duckdb.connect(str(path), read_only=read_only)
        connection.execute("SELECT 1 FROM duckdb_tables()")
        return connection
    except duckdb.Error as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> CorrSteerError:
    """What to say of a file that DuckDB would not have; only a damaged one is worth deleting."""
    reason = first_line(error)
    if "lock" in reason:
        return CorrSteerError(
            f"The cached run in {path} is open for writing in another program ({reason}); close it there and try again."
        )
    if not os.access(path, os.R_OK):
        return CorrSteerError(f"The cached run in {path} may not be read by this user; give it the right to.")
    return CorrSteerError(
        f"The cached run in {path} cannot be read ({reason}); if it is damaged, delete the folder {path.parent} to "
        f"collect it anew."
    )


def copy_whole(source: Path, target: Path) -> None:
    """A whole copy under the target's name, or none."""
    scratch = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, scratch)
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def locked(folder: Path, wait: float = 0.0) -> FileLock:
    """The run's writer lock, taken; the system gives it back when the process dies. Raises CorrSteerError if held."""
    lock = FileLock(folder / "writer.lock")
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise CorrSteerError(
            f"The run {folder.name} is being written by another process; wait for it or cancel it, then try again."
        ) from error
    return lock


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
