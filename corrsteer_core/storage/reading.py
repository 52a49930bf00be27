"""Read-only questions to a run's published file."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pandas as pd

from corrsteer_core.storage.database import connect, up_to_date
from corrsteer_core.storage.problems import is_mistake, unreadable
from corrsteer_core.storage.run_folder import database_path
from corrsteer_core.storage.writing import PATIENCE, Writer


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
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except duckdb.Error as error:
        if is_mistake(error):
            raise
        raise unreadable(path, error) from error


def _bring_up_to_date(run: str, path: Path) -> None:
    """Give a file that an older release wrote the tables of today."""
    if _up_to_date.get(path) == _version(path):
        return
    with _opened.reading(path) as connection:
        old = not up_to_date(connection)
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
            connection = connect(path, read_only=True)
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
            self._kept = connect(version.path, read_only=True)
            self._version = version

    def close(self) -> None:
        """Let go of the file; who reads it goes on."""
        if self._kept is not None:
            self._kept.close()
        self._kept = self._version = None


_opened = _Opened()
_up_to_date: dict[Path, _Version] = {}
"""Files that were checked, as they were when they had the tables of today."""
atexit.register(_opened.close)  # or DuckDB complains when the interpreter ends


def let_go() -> None:
    """Close the file that is kept open, so that the next question reads from the disk again."""
    _opened.close()


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
