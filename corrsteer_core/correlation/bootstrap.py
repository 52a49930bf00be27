"""Intervals of r and coefficients by drawing the samples again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csc_array

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.correlation.sparse_columns import IntArray, checked, chunks
from corrsteer_core.statistics.rates import FloatArray, Intervals


@dataclass(frozen=True)
class Bootstrap:
    """Percentile intervals of the columns' r and c; arrays of shape (columns,), nan if never defined."""

    r: Intervals
    c: Intervals
    used: IntArray  # resamples in which r was defined


def bootstrap(Z_subset: csc_array, y: ArrayLike, *, resamples: int = 1000, seed: int, level: float = 0.95) -> Bootstrap:
    """Percentile intervals of r and c from samples drawn with replacement; Efron (1979), Ann. Stat. 7:1.

    `Z_subset`: (samples, a few hundred columns), which is made dense. Resamples in which r (or
    c) is undefined are left out of its interval. Chosen for their high r, features keep that
    luck in every resample: the interval shows spread, and `permutation_levels` the luck.
    """
    if resamples < 1 or not 0 < level < 1:
        raise CorrSteerError(f"A bootstrap needs resamples and a level below 1; found {resamples} and {level}.")
    Z, outcome = checked(Z_subset, y)
    dense = Z.toarray()
    # The median is 0 for most features, and for the rest near the values, so nothing cancels below.
    shifted = dense - np.median(dense, axis=0)
    rng = np.random.default_rng(seed)
    draws = (_weights(rng, len(chunk), len(outcome)) for chunk in chunks(resamples, len(outcome)))
    blocks = [_resampled(shifted, dense, outcome, weights) for weights in draws]
    r, c = (np.concatenate(parts) for parts in zip(*blocks, strict=True))  # (resamples, k)
    return Bootstrap(_percentiles(r, level), _percentiles(c, level), np.sum(~np.isnan(r), axis=0))


def _weights(rng: np.random.Generator, resamples: int, n: int) -> FloatArray:
    """How often each of `n` samples is drawn in each resample: (resamples, n), rows sum to n."""
    draws = rng.integers(0, n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(draws.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def _resampled(shifted: FloatArray, z: FloatArray, y: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """r (from `shifted` z, which r does not mind) and c in every resample: two (resamples, k), nan where undefined."""
    n = len(y)
    dy = (y - np.median(y))[:, None]
    var_z = _variance(weights @ shifted / n, weights @ shifted**2 / n)
    var_y = _variance(weights @ dy / n, weights @ dy**2 / n)
    covariance = weights @ (shifted * dy) / n - (weights @ shifted / n) * (weights @ dy / n)
    rewarded = (y > 0).astype(np.float64)[:, None]
    with np.errstate(invalid="ignore"):  # 0 / 0 where no drawn sample has y > 0 is the nan meant
        c = (weights @ (z * rewarded)) / (weights @ rewarded)
    return np.clip(covariance / np.sqrt(var_z) / np.sqrt(var_y), -1, 1), c


def _variance(mean: FloatArray, mean_square: FloatArray) -> FloatArray:
    """mean_square - mean^2, nan where what is left is the rounding of a constant."""
    variance = mean_square - mean**2
    return np.where(variance > 1e-13 * mean_square, variance, np.nan)


def _percentiles(values: FloatArray, level: float) -> Intervals:
    """Interval of each column of `values` (resamples, k), nan left out."""
    bounds = np.full((2, values.shape[1]), np.nan)
    known = ~np.isnan(values).all(axis=0)  # nanquantile warns of columns that are all nan
    if known.any():
        bounds[:, known] = np.nanquantile(values[:, known], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Intervals(bounds[0], bounds[1])
