"""A run's DuckDB file: opening, copying and locking it, and bringing its tables up to date.

DuckDB keeps every other process out of a file that one process holds for writing. So a writer
works on a private copy (`writing.duckdb`) and publishes it under the file that everybody reads
(`run.duckdb`) by renaming a finished copy over it: a reader has the file before or after, whole,
and holds no writer up. A writer that is killed leaves its private file, with every batch it had
committed, and the next writer goes on from there; a private file that turns out damaged is put
aside, and the next writer goes on from what was published. `writer.lock` keeps a second writer out.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakSet

import duckdb
from filelock import FileLock, Timeout

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import copy
from corrsteer_core.correlation.feature_columns import COLUMNS
from corrsteer_core.storage.problems import unreadable
from corrsteer_core.storage.schema import MIGRATIONS, TABLES

PRIVATE = "writing.duckdb"
LOG = ".wal"
"""Ending of DuckDB's write-ahead log, beside the file."""
LOCK = "writer.lock"
ROWS_TOGETHER = 10_240
"""Rows that DuckDB compresses and writes at once, a twelfth of its own number: a change of one brings all into memory."""
_opened: WeakSet[duckdb.DuckDBPyConnection] = WeakSet()
"""Connections of this process; Ctrl-C ends their queries."""


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring the tables of an open file up to date, each step whole."""
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
    done = migrations_in(connection)
    for number, statements in enumerate(MIGRATIONS, 1):
        if number > done:
            connection.execute("BEGIN")
            connection.execute(statements)
            connection.execute("INSERT INTO migrations VALUES (?)", [number])
            connection.execute("COMMIT")
    for name in missing_columns(connection):
        connection.execute(f'ALTER TABLE features ADD COLUMN "{name}" {COLUMNS[name].kind}')


def up_to_date(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the tables of an open file are those of today."""
    return migrations_in(connection) >= len(MIGRATIONS) and not missing_columns(connection)


def missing_columns(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The entries of COLUMNS that the features of an open file lack."""
    found = connection.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = 'features'").fetchall()
    return [name for name in COLUMNS if (name,) not in found]


def migrations_in(connection: duckdb.DuckDBPyConnection) -> int:
    """How many entries of MIGRATIONS an open file has."""
    ((done,),) = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchall()
    return done


def connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a run's file. Raises CorrSteerError, DamagedError if the file is the reason."""
    try:
        connection = duckdb.connect(str(path), read_only=True) if read_only else _for_writing(path)
        _opened.add(connection)
        connection.execute("SELECT 1 FROM duckdb_tables()")
        return connection
    except duckdb.Error as error:
        raise unreadable(path, error) from error


def _for_writing(path: Path) -> duckdb.DuckDBPyConnection:
    """A connection to a file of which so few rows are written at once; it can be said of one that is attached alone."""
    connection = duckdb.connect(config={"temp_directory": f"{path}.tmp"})  # as beside a file opened by its name
    try:
        name = str(path).replace("'", "''")  # ATTACH takes no parameters
        connection.execute(f"ATTACH '{name}' AS run (ROW_GROUP_SIZE {ROWS_TOGETHER})")
        connection.execute("USE run")
        return connection
    except BaseException:
        connection.close()
        raise


def checkpoint(connection: duckdb.DuckDBPyConnection) -> None:
    """Fold the log of an open file into it, and let go of what DuckDB remembers of the file.

    It would keep all that it has written in memory, up to four fifths of the machine's; and each of its threads needs room
    of its own to write.
    """
    connection.execute("SET threads = 1")
    connection.execute("CHECKPOINT")
    connection.execute("RESET threads")
    with suppress(duckdb.Error):  # as far as it goes: what is in use stays
        connection.execute("SET memory_limit = '1MB'")
    connection.execute("RESET memory_limit")


def stop_queries() -> None:
    """Let every query that is being answered end with an error, in DuckDB's own threads too."""
    for connection in list(_opened):
        with suppress(duckdb.Error):  # it is closed
            connection.interrupt()


def read_all(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Read every value of every table of an open file, log included. Raises DamagedError where one cannot be read."""
    try:
        there = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        for table in sorted(there & TABLES):
            connection.execute(f'SELECT bit_xor(hash(one)) FROM "{table}" AS one').fetchall()
    except duckdb.Error as error:
        raise unreadable(path, error) from error


def check_file(path: Path) -> None:
    """Open a file and read all of it. Raises CorrSteerError, DamagedError if the file is the reason."""
    connection = connect(path, read_only=True)
    try:
        read_all(connection, path)
    finally:
        connection.close()


def run_in(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Name of the run that an open file holds; None before it has begun."""
    rows = connection.execute("SELECT run FROM runs").fetchall()
    return rows[0][0] if rows else None


def put_aside(path: Path) -> Path:
    """Give a damaged private file and its log another name; returns it."""
    stem = f"{path.stem}.damaged-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    place = next(
        place
        for nth in range(1000)
        if not (place := path.with_name(stem + (f"-{nth}" if nth else "") + path.suffix)).exists()
    )
    for ending in ("", LOG):
        source = Path(f"{path}{ending}")
        if source.exists():
            source.rename(f"{place}{ending}")
    return place


def copy_whole(source: Path, target: Path) -> None:
    """A whole copy under the target's name, flushed, or none."""
    copy(source, target)


def locked(folder: Path, wait: float = 0.0) -> FileLock:
    """The run's writer lock, taken; the system gives it back when the process dies. Raises CorrSteerError if it is taken."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise CorrSteerError(
            f"The run {folder.name} is being written by another process; wait for it or cancel it, then try again."
        ) from error
    except (OSError, RuntimeError) as error:
        raise CorrSteerError(
            f"The run {folder.name} cannot be written, because its lock {folder / LOCK} cannot be taken "
            f"({getattr(error, 'strerror', None) or error}); check that there is free space, that this user may write there, and that "
            f"the lock is a plain file: remove it if it is not."
        ) from error
    return lock


def now() -> datetime:
    """The time in UTC, as the tables hold it."""
    return datetime.now(UTC).replace(tzinfo=None)
