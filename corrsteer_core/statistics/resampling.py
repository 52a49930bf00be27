"""Samples drawn with replacement, as weights, and the interval that resampled values span.

A resample is kept as how often each sample was drawn: a mean over it is then one product of matrices.
Efron (1979), Annals of Statistics 7:1-26.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.rates import FloatArray, Interval

# A block of resamples stays about this large, whatever the numbers of samples and resamples.
_BLOCK_BYTES = 8 * 2**20


def weight_blocks(resamples: int, n: int, seed: int) -> Iterator[FloatArray]:
    """How often each of `n` samples is drawn: blocks (some resamples, n) whose rows sum to n, `resamples` rows in all.

    The same seed gives the same resamples whatever is computed from them, so that two statistics of the same samples
    are resampled as a pair. Raises CorrSteerError for less than one resample or sample.
    """
    if resamples < 1 or n < 1:
        raise CorrSteerError(f"A bootstrap needs samples and resamples; found {n} and {resamples}.")
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK_BYTES // (8 * n))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def percentile_interval(values: FloatArray, level: float = 0.95) -> Interval | None:
    """The middle `level` of resampled `values`, shape (resamples,); nan is left out; None if nothing is left."""
    if not 0 < level < 1:
        raise CorrSteerError(f"A confidence level must lie between 0 and 1, as in 0.95; found {level}.")
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
