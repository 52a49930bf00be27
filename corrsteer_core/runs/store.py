"""One DuckDB file per run, in a layout in which readers and a writer never lock each other out.

DuckDB keeps every other process out of a file that one process holds for writing. So a writer
works on a private copy (`writing.duckdb`) and publishes it under the file that everybody reads
(`run.duckdb`) by renaming a finished copy over it: a reader has the file before or after, whole,
and holds no writer up. A writer that is killed leaves its private file, with every batch it had
committed, and the next writer goes on from there. `writer.lock` keeps a second writer out.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from corrsteer_core.base import jobs, uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.base.paths import cache_dir
from corrsteer_core.runs.schema import MIGRATIONS

if TYPE_CHECKING:  # reading a run must not load torch, which these do
    from corrsteer_core.runs.run_config import RunConfig
    from corrsteer_core.tasks import Item

PUBLISHED = "run.duckdb"
PRIVATE = "writing.duckdb"
PATIENCE = 30.0
"""Seconds that a short write waits for another writer of the same run."""
PUBLISH_SHARE = 0.05  # of a writer's time may go into publishing what it has so far


def runs_dir() -> Path:
    """Folder of all runs."""
    return cache_dir() / "runs"


def run_path(run: str) -> Path:
    """Folder of a run. Raises CorrSteerError for a name that no run can have or that is not cached."""
    folder = runs_dir() / run
    if not run or run != Path(run).name or run.startswith(".") or not folder.is_dir():
        known = ", ".join(run_names()[:5]) or "none"
        raise CorrSteerError(f"There is no run {run!r} in {runs_dir()}; cached are: {known}.")
    return folder


def is_cached(run: str) -> bool:
    """Whether there is such a run."""
    try:
        run_path(run)
    except CorrSteerError:
        return False
    return True


def run_names() -> list[str]:
    """Names of the cached runs, newest first."""
    folders = [path.parent for path in runs_dir().glob(f"*/{PUBLISHED}")]
    return [folder.name for folder in sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)]


def database_path(run: str) -> Path:
    """The file to read a run from."""
    return run_path(run) / PUBLISHED


def delete_run(run: str) -> None:
    """Remove a run and all that is kept for it alone. Raises CorrSteerError while it is being written."""
    folder = run_path(run)
    data = _data(run)
    lock = _locked(folder)
    try:
        shutil.rmtree(folder)
    finally:
        lock.release()
    shutil.rmtree(measured_sets(run), ignore_errors=True)
    if data and not _wanted(data):
        uploads.remove(Path(data))


def measured_sets(run: str) -> Path:
    """Folder of the sets of a run that were handed to jobs as files."""
    return cache_dir() / "sets" / run


def _wanted(data: str) -> bool:
    """Whether another run, or a job that may yet make one, has this file of samples; a run that cannot be read may."""
    end = str(Path(*Path(data).parts[-2:]))  # links may lead to the rest in several ways
    asked = (part for job in jobs.jobs() if job.state != "finished" for part in job.arguments)
    return any(end in part for part in asked) or any(_data(run) in (data, None) for run in run_names())


def _data(run: str) -> str | None:
    """The file of samples that a run is made from, "" for none; None where the run cannot be read."""
    try:
        found = query(run, "SELECT config->>'data' AS data FROM runs")["data"]
    except CorrSteerError:
        return None
    return str(found[0]) if len(found) else ""


def query(run: str, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pd.DataFrame:
    """Read-only SQL on a run's published file."""
    with reading(run) as connection:
        return connection.execute(sql, parameters).df()


@contextmanager
def reading(run: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to a run's published file. Raises CorrSteerError if it is not a readable database."""
    path = database_path(run)
    try:
        _bring_up_to_date(run, path)
        with _opened.reading(path) as connection:
            yield connection
    except (
        duckdb.IOException,
        duckdb.CatalogException,
        duckdb.SerializationException,
        duckdb.InternalException,
    ) as error:
        raise _unreadable(path, error) from error


def _bring_up_to_date(run: str, path: Path) -> None:
    """Give a file that an older release wrote the tables of today."""
    if _up_to_date.get(path) == _version(path):
        return
    with _opened.reading(path) as connection:
        old = _migrations_in(connection) < len(MIGRATIONS)
    if old:
        with Writer(run, wait=PATIENCE):
            pass  # every writer does
    _up_to_date[path] = _version(path)


class _Version(NamedTuple):
    """A file as it is at one time; zeros where there is none."""

    path: Path
    changed: int
    inode: int


class _Opened:
    """The published file that was read last, kept open: to open one takes 60 ms, to ask an open one 1 ms.

    DuckDB gives whoever opens a path what is open under it in this process, also after the file was replaced. So a
    new file is opened only when nobody reads the old one any more.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._kept: duckdb.DuckDBPyConnection | None = None
        self._version: _Version | None = None
        self._readers: list[tuple[int, _Version]] = []  # by thread

    @contextmanager
    def reading(self, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of one's own to the file as it is now; within another of the same thread, to the same version."""
        thread = threading.get_ident()
        with self._changed:
            reader = next((mine for mine in self._readers if mine[0] == thread and mine[1].path == path), None)
            if reader is None:
                while self._blocked(version := _version(path)):
                    self._changed.wait()
                self._keep(version)
                reader = (thread, version)
            connection = _connect(path, read_only=True)
            self._readers.append(reader)
        try:
            yield connection
        finally:
            connection.close()
            with self._changed:
                self._readers.remove(reader)
                self._changed.notify_all()

    def _blocked(self, version: _Version) -> bool:
        """Whether somebody reads another version of this file."""
        return any(other.path == version.path and other != version for _, other in self._readers)

    def _keep(self, version: _Version) -> None:
        """Have this version of a file open, and no other."""
        if self._version != version:
            self.close()
            self._kept = _connect(version.path, read_only=True)
            self._version = version

    def close(self) -> None:
        """Let go of the file; who reads it goes on."""
        if self._kept is not None:
            self._kept.close()
        self._kept = self._version = None


_opened = _Opened()
_up_to_date: dict[Path, _Version] = {}
"""Files that were looked at, as they were when they had the tables of today."""
atexit.register(_opened.close)  # or DuckDB complains when the interpreter ends


def _version(path: Path) -> _Version:
    try:
        status = path.stat()
    except OSError:
        return _Version(path, 0, 0)
    return _Version(path, status.st_mtime_ns, status.st_ino)


class Reader:
    """A run's published file for questions that need more than one query. Use as a context manager."""

    def __init__(self, run: str) -> None:
        self.run = run

    def __enter__(self) -> Reader:
        self._opened = reading(self.run)
        self.connection = self._opened.__enter__()
        return self

    def __exit__(self, *exception: Any) -> bool | None:
        return self._opened.__exit__(*exception)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """SQL on what has been published."""
        return self.connection.execute(sql, parameters).df()


class Writer:
    """The one process that adds to a run. Use as a context manager; leaving it publishes what was written.

    Raises CorrSteerError when another process is still writing after `wait` seconds.
    """

    def __init__(self, run: str, *, wait: float = 0.0) -> None:
        self.run, self.wait = run, wait
        self.folder = runs_dir() / run
        self._published_at = 0.0
        self._publish_cost = 0.0

    def __enter__(self) -> Writer:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder, self.wait)
        try:
            private, published = self.folder / PRIVATE, self.folder / PUBLISHED
            if published.exists() and not private.exists():
                _connect(published, read_only=True).close()  # a damaged file is an error, not a start from nothing
                _copy(published, private)
            self.connection = _connect(private)
            _migrate(self.connection)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            self.connection.close()  # closing folds the write-ahead log into the file
            if (self.folder / (PRIVATE + ".wal")).exists():
                raise CorrSteerError(f"The run {self.run} was left unfinished on disk; run the same command again.")
            os.replace(self.folder / PRIVATE, self.folder / PUBLISHED)
        finally:
            self._lock.release()

    def publish(self, *, now: bool = False) -> None:
        """Let readers see what has been written; without `now`, only as often as its cost allows."""
        started = time.monotonic()
        if not now and started - self._published_at < self._publish_cost / PUBLISH_SHARE:
            return
        self.connection.execute("CHECKPOINT")
        _copy(self.folder / PRIVATE, self.folder / PUBLISHED)
        self._published_at = time.monotonic()
        self._publish_cost = self._published_at - started

    def begin(self, config: RunConfig, items: Sequence[Item], batch_size: int) -> int:
        """Record the run and its samples if they are not there; returns the batch size the run is bound to."""
        row = self.connection.execute("SELECT batch_size FROM runs").fetchone()
        if row:
            return row[0]
        samples = pd.DataFrame(
            {
                "sample": [item.id for item in items],
                "split": [item.split for item in items],
                "prompt": [item.prompt for item in items],
                "target": pd.array([item.target for item in items], dtype="string"),
                "item": [json.dumps(asdict(item)) for item in items],
            }
        )
        with self._transaction():
            self.connection.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?)", [self.run, _now(), json.dumps(asdict(config)), batch_size]
            )
            self._insert("samples", samples)
        self.publish(now=True)
        return batch_size

    def add_batch(
        self,
        samples: Sequence[str],
        outputs: Sequence[str],
        outcomes: Sequence[float],
        tokens: Sequence[int],
        active: Mapping[int, tuple[np.ndarray, np.ndarray, np.ndarray]],
    ) -> None:
        """Store one finished batch whole, or not at all.

        `active` maps a layer to (row in the batch, feature, value) of its active features.
        """
        done = pd.DataFrame({"sample": samples, "output": outputs, "outcome": outcomes, "tokens": tokens})
        names = np.array(samples, dtype=object)
        with self._transaction():
            self.connection.register("done", done)
            self.connection.execute(
                "UPDATE samples SET output = done.output, outcome = done.outcome, tokens = done.tokens "
                "FROM done WHERE samples.sample = done.sample"
            )
            self.connection.unregister("done")
            for layer, (rows, features, values) in active.items():
                frame = pd.DataFrame({"sample": names[rows], "feature": features, "value": values})
                self._insert("activations", frame.assign(layer=layer))
        self.publish()

    def replace(self, table: str, frame: pd.DataFrame) -> None:
        """Put a new content in place of a table's old one."""
        with self._transaction():
            self.connection.execute(f"DELETE FROM {_known(table)}")
            self._insert(table, frame)

    def add(self, table: str, frame: pd.DataFrame) -> None:
        """Add rows, in place of older ones with the same key."""
        with self._transaction():
            self._insert(table, frame, "INSERT OR REPLACE")

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """SQL on what has been written, published or not."""
        return self.connection.execute(sql, parameters).df()

    def _insert(self, table: str, frame: pd.DataFrame, verb: str = "INSERT") -> None:
        self.connection.register("incoming", frame)
        columns = ", ".join(f'"{column}"' for column in frame.columns)
        self.connection.execute(
            f"{verb} INTO {_known(table)} (run, {columns}) SELECT ?, {columns} FROM incoming", [self.run]
        )
        self.connection.unregister("incoming")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")


_TABLES = frozenset(
    {"runs", "samples", "activations", "features", "fits", "chance", "effects", "sets", "evaluations", "descriptions"}
)


def _known(table: str) -> str:
    """Table names cannot be parameters in SQL; only these are let through."""
    if table not in _TABLES:
        raise ValueError(f"no table {table!r}")
    return table


def _migrate(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
    done = _migrations_in(connection)
    for number, statements in enumerate(MIGRATIONS, 1):
        if number > done:
            connection.execute("BEGIN")
            connection.execute(statements)
            connection.execute("INSERT INTO migrations VALUES (?)", [number])
            connection.execute("COMMIT")


def _migrations_in(connection: duckdb.DuckDBPyConnection) -> int:
    ((done,),) = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchall()
    return done


def _connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    try:
        connection = duckdb.connect(str(path), read_only=read_only)
        connection.execute("SELECT 1 FROM duckdb_tables()")
        return connection
    except duckdb.Error as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CorrSteerError:
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


def _copy(source: Path, target: Path) -> None:
    """A whole copy under the target's name, or none."""
    scratch = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, scratch)
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def _locked(folder: Path, wait: float = 0.0) -> FileLock:
    """The run's writer lock, taken; the system gives it back when the process dies. Raises CorrSteerError if held."""
    lock = FileLock(folder / "writer.lock")
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise CorrSteerError(
            f"The run {folder.name} is being written by another process; wait for it or cancel it, then try again."
        ) from error
    return lock


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
