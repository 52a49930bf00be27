"""The one writer of a run."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import move, not_written, remove_leftovers
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.storage.database import (
    LOG,
    PRIVATE,
    check_file,
    checkpoint,
    connect,
    copy_whole,
    locked,
    migrate,
    now,
    put_aside,
    read_all,
    run_in,
)
from corrsteer_core.storage.problems import DamagedError, is_damage, is_mistake, unreadable, unwritable
from corrsteer_core.storage.run_folder import PUBLISHED, runs_dir
from corrsteer_core.storage.schema import TABLES
from corrsteer_core.tasks import Item

log = logging.getLogger("corrsteer")
PATIENCE = 30.0
"""Seconds that a short write waits for another writer of the same run."""
TOGETHER = 1024
"""Samples of a new run that are put into rows at once: those of all would be in memory twice more."""
LONGEST_LOG = 2**20
"""Bytes."""
PUBLISH_SHARE = 0.05  # of a writer's time may go into publishing what it has so far


class Writer:
    """The one process that adds to a run. Use as a context manager; leaving it publishes what was written.

    Left by an error it publishes nothing: what was committed stays in the private file, where the next writer goes on.
    Raises CorrSteerError when another process is still writing after `wait` seconds, when the disk is full or refuses,
    and when the run's file is damaged.
    """

    def __init__(self, run: str, *, wait: float = 0.0) -> None:
        self.run, self.wait = run, wait
        self.folder = runs_dir() / run
        self.private, self.published = self.folder / PRIVATE, self.folder / PUBLISHED
        self._in_transaction = False
        self._published_at = 0.0
        self._publish_cost = 0.0

    def __enter__(self) -> Writer:
        with self._on_disk():
            self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = locked(self.folder, self.wait)
        try:
            remove_leftovers(self.folder)
            self.connection = self._left_by_another() or self._begun_from_published()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            try:
                if error is None:
                    self._checkpoint(self.connection)
            finally:
                self.connection.close()
            if error is None:
                self._publish_private()
            elif isinstance(error, duckdb.InterruptException):
                raise KeyboardInterrupt from error
            elif isinstance(error, duckdb.Error) and not is_mistake(error):
                raise self._failed(error) from error
        finally:
            self._lock.release()

    def _left_by_another(self) -> duckdb.DuckDBPyConnection | None:
        """The private file of a writer that did not end well, open; None if there is none, or it was damaged."""
        if not self.private.exists() and not self._log.exists():
            return None
        try:
            connection = connect(self.private)
            try:
                read_all(connection, self.private)
                self._fold_log(connection)
                return self._ready(connection)
            except BaseException:
                connection.close()
                raise
        except DamagedError:
            aside = put_aside(self.private)
            log.warning(
                "What an interrupted command left of the run %s was damaged; it has been renamed to %s, and the work "
                "goes on from what was published before.", self.run, aside,
            )  # fmt: skip
            return None

    def _fold_log(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Fold what the log holds into the file. One without a whole change in it DuckDB neither reads nor removes."""
        self._checkpoint(connection)
        self._log.unlink(missing_ok=True)

    def _checkpoint(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Fold the log into the file; closing would do it too, but not say why it could not."""
        try:
            checkpoint(connection)
        except duckdb.Error as error:
            raise unwritable(self.run, self.private, error) from error

    def _begun_from_published(self) -> duckdb.DuckDBPyConnection:
        """A private copy of what is published, open; an empty file where nothing is."""
        try:
            if self.published.exists():
                connect(self.published, read_only=True).close()  # a damaged file is an error, not a start from nothing
                with self._on_disk():
                    copy_whole(self.published, self.private)
            connection = connect(self.private)
            try:
                return self._ready(connection)
            except BaseException:
                connection.close()
                raise
        except BaseException as error:
            self._remove_private()
            if isinstance(error, DamagedError) and isinstance(error.__cause__, Exception) and self.published.exists():
                raise unreadable(self.published, error.__cause__) from error
            raise

    def _ready(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """The open file with the tables of today, checked to be of this run."""
        try:
            migrate(connection)
            name = run_in(connection)
        except duckdb.Error as error:
            raise unreadable(self.private, error) from error
        if name not in (None, self.run):
            raise CorrSteerError(
                f"The folder {self.folder} holds the run {name}, copied or renamed: it can be read, but nothing can "
                f"be added to it. Give the folder the name {name} again, or work with that run."
            )
        return connection

    def _publish_private(self) -> None:
        if self._log.exists():
            raise unwritable(self.run, self.private, duckdb.IOException("its log is not in the file"))
        with self._on_disk():
            move(self.private, self.published)

    def _failed(self, error: duckdb.Error) -> CorrSteerError:
        """What to say of an error of DuckDB's. A private file that is damaged is put aside, never published."""
        try:
            check_file(self.private)
            if not is_damage(error):
                return unwritable(self.run, self.private, error)
        except DamagedError:
            pass
        except CorrSteerError:
            return unwritable(self.run, self.private, error)
        aside = put_aside(self.private)
        try:
            check_file(self.published)
        except CorrSteerError as damaged:
            return damaged
        return CorrSteerError(
            f"What was being written to the run {self.run} was damaged ({first_line(error)}) and has been renamed to "
            f"{aside}; run the same command again to go on from what was published before."
        )

    def _remove_private(self) -> None:
        for path in (self.private, self._log):
            path.unlink(missing_ok=True)

    @property
    def _log(self) -> Path:
        return self.folder / (PRIVATE + LOG)

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """Says in a sentence what the disk refuses."""
        try:
            yield
        except OSError as error:
            raise not_written(f"The run {self.run}", self.folder, error) from error

    def publish(self, *, now: bool = False) -> None:
        """Let readers see what has been written; without `now`, only as often as its cost allows."""
        started = time.monotonic()
        if not now and started - self._published_at < self._publish_cost / PUBLISH_SHARE:
            return
        checkpoint(self.connection)
        with self._on_disk():
            copy_whole(self.private, self.published)
        self._published_at = time.monotonic()
        self._publish_cost = self._published_at - started

    def begin(self, config: Any, items: Sequence[Item], batch_size: int, conditions: str | None = None) -> int:
        """Record the run (`config`: a RunConfig) and its samples if they are not there; returns the batch size it is bound to.

        `conditions` (JSON, see `models.conditions`) are what it is held to from now on.
        """
        row = self.connection.execute("SELECT batch_size FROM runs").fetchone()
        if row:
            return row[0]
        self.connection.execute("DELETE FROM samples")  # of a writer that was stopped here: without a row in `runs`
        for start in range(0, len(items), TOGETHER):
            self._insert("samples", _unanswered(items[start : start + TOGETHER]))
            self._fold_long_log()
        with self.transaction():
            self.connection.execute(
                "INSERT INTO runs (run, created, config, batch_size) VALUES (?, ?, ?, ?)",
                [self.run, now(), json.dumps(asdict(config)), batch_size],
            )
            if conditions:
                self.connection.execute("UPDATE runs SET conditions = ?", [conditions])
        self.publish(now=True)
        return batch_size

    def add_batch(
        self,
        samples: Sequence[str],
        outputs: Sequence[str],
        outcomes: Sequence[float],
        tokens: Sequence[int],
        active: Mapping[int, tuple[np.ndarray, np.ndarray, np.ndarray]],
        seconds: float | None = None,
    ) -> None:
        """Store one finished batch whole, or not at all.

        `active` maps a layer to (row in the batch, feature, value) of its active features; `seconds` is what it took.
        """
        done = pd.DataFrame({"sample": samples, "output": outputs, "outcome": outcomes, "tokens": tokens})
        names = np.array(samples, dtype=object)
        with self.transaction():
            self.connection.register("done", done)
            self.connection.execute(
                "UPDATE samples SET output = done.output, outcome = done.outcome, tokens = done.tokens "
                "FROM done WHERE samples.sample = done.sample"
            )
            self.connection.unregister("done")
            if seconds is not None:
                self.connection.execute(
                    "UPDATE runs SET timed = coalesce(timed, 0) + ?, seconds = coalesce(seconds, 0) + ?",
                    [len(samples), seconds],
                )
            for layer, (rows, features, values) in active.items():
                frame = pd.DataFrame({"sample": names[rows], "feature": features, "value": values})
                self._insert("activations", frame.assign(layer=layer))
        self._fold_long_log()
        self.publish()

    def _fold_long_log(self) -> None:
        """Keep the log short, and with it what DuckDB has in memory."""
        if self._log.exists() and self._log.stat().st_size > LONGEST_LOG:
            checkpoint(self.connection)

    def replace(self, table: str, frame: pd.DataFrame) -> None:
        """Put a new content in place of a table's old one."""
        with self.transaction():
            self.connection.execute(f"DELETE FROM {_known(table)}")
            self._insert(table, frame)

    def add(self, table: str, frame: pd.DataFrame) -> None:
        """Add rows, in place of older ones with the same key."""
        with self.transaction():
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
    def transaction(self) -> Iterator[None]:
        """All that is written within is written together, or none of it; one within another is part of that."""
        if self._in_transaction:
            yield
            return
        self._in_transaction = True
        try:
            self.connection.execute("BEGIN")
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):  # a commit that failed has ended the transaction, a fatal error everything
                self.connection.execute("ROLLBACK")
            raise
        finally:
            self._in_transaction = False


def _unanswered(items: Sequence[Item]) -> pd.DataFrame:
    """Rows of `samples` before they are collected."""
    return pd.DataFrame(
        {
            "sample": [item.id for item in items],
            "split": [item.split for item in items],
            "prompt": [item.prompt for item in items],
            "target": pd.array([item.target for item in items], dtype="string"),
            "item": [json.dumps(asdict(item)) for item in items],
        }
    )


def _known(table: str) -> str:
    """Table names cannot be parameters in SQL; only these are let through."""
    if table not in TABLES:
        raise ValueError(f"no table {table!r}")
    return table
