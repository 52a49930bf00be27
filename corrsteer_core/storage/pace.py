"""How many samples a second a model answers on this machine, by what earlier runs took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from corrsteer_core.storage.reading import query

ENOUGH = 16
"""Samples from which a rate is one: the first answers are slower than the others."""


@dataclass(frozen=True)
class Pace:
    """What one run took to answer, with reading its features."""

    run: str
    model: str
    max_new_tokens: int
    samples: int
    seconds: float

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds

    def seconds_for(self, samples: int) -> float:
        """What as many samples would take at this rate."""
        return samples / self.rate


def pace(run: str) -> Pace | None:
    """The pace of a run; None where too few of its answers were timed. Raises CorrSteerError for one that cannot be read."""
    rows = query(
        run,
        "SELECT config->>'model' AS model, CAST(config->>'max_new_tokens' AS INTEGER) AS tokens, timed, seconds FROM runs "
        "WHERE timed >= ? AND seconds > 0",
        [ENOUGH],
    )
    if rows.empty:
        return None
    row = rows.iloc[0]
    return Pace(run, str(row["model"]), int(row["tokens"]), int(row["timed"]), float(row["seconds"]))


def alike(paces: Iterable[Pace | None], model: str, max_new_tokens: int) -> Pace | None:
    """The first pace of this model with answers of this length at most; None if there is none, as others say little."""
    return next((one for one in paces if one and (one.model, one.max_new_tokens) == (model, max_new_tokens)), None)
