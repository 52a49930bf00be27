"""Which classes are answered where which are right: confusion tables, and what they say of a task and of a change.

Classes are numbers 0 to K - 1 with names; an answer that is none of them (other text, nothing, a refusal) is NO_CHOICE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.rates import NOISE, FloatArray

IntArray = NDArray[np.int64]

NO_CHOICE = -1
"""The answer of a sample that chose none of the classes."""


class Share(NamedTuple):
    """A class and the share of samples that have it."""

    name: str
    share: float


@dataclass(frozen=True)
class ClassChange:
    """One class: the samples for which it is right, and the share answered right before and after; None for n = 0."""

    name: str
    n: int
    unsteered_rate: float | None
    steered_rate: float | None


@dataclass(frozen=True)
class ConfusionTable:
    """`counts[k][j]` samples have right class k and answer j; the last column is no choice. K rows of K + 1 numbers."""

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        k = len(self.names)
        if k < 1 or len(set(self.names)) != k or [len(row) for row in self.counts] != [k + 1] * k:
            raise CorrSteerError(f"A confusion table of {k} different classes has {k} rows of {k + 1} counts.")
        if min(map(min, self.counts)) < 0:
            raise CorrSteerError("Counts cannot be negative.")

    @property
    def array(self) -> IntArray:
        """The counts, (K, K + 1)."""
        return np.array(self.counts, dtype=np.int64)

    @property
    def n(self) -> int:
        """All samples."""
        return int(self.array.sum())

    @property
    def right(self) -> IntArray:
        """Samples answered right, by right class: (K,)."""
        return np.diagonal(self.array)

    @property
    def rates(self) -> FloatArray:
        """Share answered right, by right class, (K,); nan for a class that never is right. Their mean is the balanced rate."""
        totals = self.array.sum(axis=1)
        return np.where(totals > 0, self.right / np.maximum(totals, 1), np.nan)

    @property
    def rate(self) -> float | None:
        """Share of all samples answered right; None without samples."""
        return float(self.right.sum() / self.n) if self.n else None

    @property
    def no_choice_share(self) -> float | None:
        """Share of samples whose answer is none of the classes; None without samples."""
        return float(self.array[:, -1].sum() / self.n) if self.n else None

    @property
    def majority_answer(self) -> Share | None:
        """The class answered most often (the first of several) and its share of all samples; None if none ever is."""
        answered = self.array[:, :-1].sum(axis=0)
        return _largest(self.names, answered, self.n) if answered.any() else None

    @property
    def majority_class(self) -> Share | None:
        """The class that is right most often (the first of several): its share is the rate of always answering it."""
        return _largest(self.names, self.array.sum(axis=1), self.n) if self.n else None


def confusion(names: Sequence[str], right: ArrayLike, answered: ArrayLike) -> ConfusionTable:
    """Count right classes (n,), 0 to K - 1, against answers (n,), 0 to K - 1 or NO_CHOICE.

    Raises CorrSteerError for lengths that differ or numbers that are no class.
    """
    k, truth, answer = len(names), np.asarray(right), np.asarray(answered)
    if truth.ndim != 1 or truth.shape != answer.shape:
        raise CorrSteerError(
            f"Right classes and answers must be of the same samples; found {truth.shape}, {answer.shape}."
        )
    for what, numbers, least in (("right class", truth, 0), ("answer", answer, NO_CHOICE)):
        whole = len(numbers) == 0 or np.issubdtype(numbers.dtype, np.integer)
        if not whole or numbers.min(initial=least) < least or numbers.max(initial=least) >= k:
            raise CorrSteerError(f"A {what} must be a whole number from {least} to {k - 1}.")
    column = np.where(answer == NO_CHOICE, k, answer).astype(np.int64)
    cells = np.bincount(truth.astype(np.int64) * (k + 1) + column, minlength=k * (k + 1)).reshape(k, k + 1)
    return ConfusionTable(tuple(names), tuple(tuple(row) for row in cells.tolist()))


def class_changes(unsteered: ConfusionTable, steered: ConfusionTable) -> list[ClassChange]:
    """Rates by class before and after, in the order of the classes; CorrSteerError unless the samples are the same."""
    totals = unsteered.array.sum(axis=1)
    if unsteered.names != steered.names or not np.array_equal(totals, steered.array.sum(axis=1)):
        raise CorrSteerError("Two confusion tables can be compared only if classes and their samples are the same.")
    return [
        ClassChange(name, int(n), _known(was), _known(now))
        for name, n, was, now in zip(unsteered.names, totals, unsteered.rates, steered.rates, strict=True)
    ]


def sentence(changes: Sequence[ClassChange]) -> str:
    """As "right on Negative 61% to 91%, on Positive 96% to 84%"; classes without samples are left out, "" if all are."""
    parts = [f"on {c.name} {c.unsteered_rate:.0%} to {c.steered_rate:.0%}" for c in changes if c.n]
    return f"right {', '.join(parts)}" if parts else ""


def parted(changes: Sequence[ClassChange]) -> bool:
    """Whether what happens to one class and to another lies apart by more than noise.

    Rates before and after are taken as independent, which is cautious: they are of the same samples. Each is shrunk to a
    half by two made-up samples (Agresti and Caffo 2000), and the level is shared among all pairs of classes.
    """
    known = [_change(one) for one in changes if one.n]
    pairs = len(known) * (len(known) - 1) // 2
    if not pairs:
        return False
    bound = NormalDist().inv_cdf(1 - NOISE / pairs / 2)
    return any(abs(one[0] - other[0]) > bound * math.sqrt(one[1] + other[1]) for one, other in combinations(known, 2))


def _change(one: ClassChange) -> tuple[float, float]:
    """The change of a class's rate, and its variance."""
    n = one.n + 2
    before, after = ((rate * one.n + 1) / n for rate in (one.unsteered_rate or 0.0, one.steered_rate or 0.0))
    return after - before, (before * (1 - before) + after * (1 - after)) / n


def _largest(names: Sequence[str], counts: IntArray, n: int) -> Share:
    best = int(np.argmax(counts))
    return Share(names[best], float(counts[best] / n))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
