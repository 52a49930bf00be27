"""The one writer of a run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.storage.database import PRIVATE, connect, copy_whole, locked, migrate, now
from corrsteer_core.storage.run_folder import PUBLISHED, runs_dir
from corrsteer_core.tasks import Item

PATIENCE = 30.0
"""Seconds that a short write waits for another writer of the same run."""
PUBLISH_SHARE = 0.05  # of a writer's time may go into publishing what it has so far


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
        self._lock = locked(self.folder, self.wait)
        try:
            private, published = self.folder / PRIVATE, self.folder / PUBLISHED
            if published.exists() and not private.exists():
                connect(published, read_only=True).close()  # a damaged file is an error, not a start from nothing
                copy_whole(published, private)
            self.connection = connect(private)
            migrate(self.connection)
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
        copy_whole(self.folder / PRIVATE, self.folder / PUBLISHED)
        self._published_at = time.monotonic()
        self._publish_cost = self._published_at - started

    def begin(self, config: Any, items: Sequence[Item], batch_size: int) -> int:
        """Record the run (`config`: a RunConfig) and its samples if they are not there; returns the batch size it is bound to."""
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
                "INSERT INTO runs VALUES (?, ?, ?, ?)", [self.run, now(), json.dumps(asdict(config)), batch_size]
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
    {
        "runs",
        "samples",
        "activations",
        "features",
        "fits",
        "chance",
        "effects",
        "sets",
        "evaluations",
        "descriptions",
        "matched",
    }
)


def _known(table: str) -> str:
    """Table names cannot be parameters in SQL; only these are let through."""
    if table not in _TABLES:
        raise ValueError(f"no table {table!r}")
    return table
