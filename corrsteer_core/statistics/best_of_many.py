"""Which of many candidates, tried on the same samples, does better than nothing by more than the luck of many tries?

Each candidate's outcomes are compared with those without it, sample by sample. If no candidate did anything, the differences
of a sample could as well all have the other sign: sign patterns are drawn, each turns all differences of a sample together,
and of every pattern the highest statistic of any candidate is kept. A candidate that few such maxima reach did not come out
best by being one of many. What candidates have in common (scales of one feature) is thereby accounted for, where dividing
the threshold by their number would take them for independent: Westfall & Young (1993), Resampling-Based Multiple Testing;
Nichols & Holmes (2002), Human Brain Mapping 15:1-25.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.graded import sign_flip
from corrsteer_core.statistics.rates import NOISE, FloatArray

DRAWS = 4_999
"""Sign patterns drawn: the smallest p is then 0.0002."""

# Statistics this close are one: a pattern that ties with the data reaches it.
_TIE = 1e-9
_BLOCK = 2**21  # numbers of a block of patterns or of statistics


@dataclass(frozen=True)
class BestOfMany:
    """`statistics` (candidates,) and the highest one of each sign pattern, (draws,)."""

    statistics: FloatArray
    maxima: FloatArray

    @property
    def p(self) -> FloatArray:
        """One-sided p of each candidate, corrected for their number: (1 + maxima that reach it) / (1 + draws).

        Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39. 1 for one that changed nothing.
        """
        reached = len(self.maxima) - np.searchsorted(np.sort(self.maxima), self.statistics - _TIE)
        return np.where(self.statistics > 0, (1 + reached) / (1 + len(self.maxima)), 1.0)

    def critical(self, alpha: float = NOISE) -> float:
        """The statistic above which p is below `alpha`."""
        allowed = int(np.ceil(alpha * (1 + len(self.maxima)))) - 2  # so many maxima may reach it
        return float(np.sort(self.maxima)[::-1][max(0, allowed)]) + _TIE


def best_of_many(unsteered: ArrayLike, steered: ArrayLike, *, seed: int = 0, draws: int = DRAWS) -> BestOfMany:
    """Candidates' outcomes (n, candidates) against `unsteered` (n,), all in [0, 1], of the same samples.

    Raises CorrSteerError for shapes that do not fit or no samples.
    """
    before, after = np.asarray(unsteered, dtype=np.float64), np.asarray(steered, dtype=np.float64)
    if after.ndim != 2 or before.shape != after.shape[:1] or not len(before) or draws < 1:
        raise CorrSteerError(f"Outcomes must be of the same samples; found {before.shape} and {after.shape}.")
    differences = after - before[:, None]
    moved = differences[(differences != 0).any(axis=1)]
    lengths = np.sqrt((moved**2).sum(axis=0))
    unit = moved / np.where(lengths > 0, lengths, 1.0)
    rng, maxima = np.random.default_rng(seed), []
    step = max(1, _BLOCK // max(1, *unit.shape))
    for start in range(0, draws, step):
        signs = rng.integers(0, 2, size=(min(step, draws - start), len(unit)), dtype=np.int8)
        maxima.append(((2.0 * signs - 1.0) @ unit).max(axis=1, initial=-np.inf))
    return BestOfMany(statistics_of(before, after), np.concatenate(maxima))


def corrected_p(unsteered: ArrayLike, steered: ArrayLike, *, seed: int = 0) -> FloatArray:
    """`best_of_many(...).p`; for a single candidate the exact one-sided p (McNemar's where outcomes are 0 or 1)."""
    before, after = np.asarray(unsteered, dtype=np.float64), np.asarray(steered, dtype=np.float64)
    if after.ndim == 2 and after.shape[1] == 1 and len(before) == len(after):
        differences = after[:, 0] - before
        return np.array([sign_flip(differences, seed=seed).p / 2 if differences.sum() > 0 else 1.0])
    return best_of_many(before, after, seed=seed).p


def statistics_of(unsteered: FloatArray, steered: FloatArray) -> FloatArray:
    """The statistic of each candidate, (candidates,): sum of its differences over the root of the sum of their squares."""
    differences = steered - unsteered[:, None]
    lengths = np.sqrt((differences**2).sum(axis=0))
    return differences.sum(axis=0) / np.where(lengths > 0, lengths, 1.0)
