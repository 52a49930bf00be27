"""Sparse activations and outcomes: what every statistic of them needs.

Pooled activations come as Z, a sparse column array (samples, features): what is not stored is silent, z = 0. Outcomes
come as y, shape (samples,), in [0, 1], 1 being success. Everything is computed in float64 from the stored entries; no
dense (samples, features) array of a whole layer is ever formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.rates import FloatArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
# Dense blocks stay about this large, whatever the numbers of samples, features and permutations.
BLOCK_BYTES = 8 * 2**20


def is_constant(y: ArrayLike) -> bool:
    """Whether all outcomes are equal (or there are none), so that nothing can correlate with them."""
    values = np.asarray(y)
    return values.size == 0 or bool(values.min() == values.max())


@dataclass(frozen=True)
class Moments:
    """Of each column of a sparse array: what both r and its null distribution need."""

    samples: int
    support: IntArray
    mean: FloatArray
    squares: FloatArray  # sum over all samples of (z - mean)^2
    constant: BoolArray


def moments_of(Z: csc_array) -> Moments:
    """Two passes, since sum z^2 - n mean^2 loses every digit when the mean is large and the variance small."""
    n, support, columns = Z.shape[0], np.diff(Z.indptr).astype(np.int64), column_of_each(Z)
    silent = n - support
    mean = column_reduce(np.add, Z.data, Z) / n
    squares = column_reduce(np.add, (Z.data - mean[columns]) ** 2, Z) + silent * mean**2
    lowest, highest = column_reduce(np.minimum, Z.data, Z), column_reduce(np.maximum, Z.data, Z)
    # squares is 0 for silent features, but not for a constant whose mean was rounded.
    constant = (squares == 0) | ((silent == 0) & (lowest == highest))
    return Moments(n, support, mean, squares, constant)


def pearson(Z: csc_array, y: FloatArray, moments: Moments) -> FloatArray:
    """r of each column with y; nan where either is constant.

    Over stored entries, sum z dy = sum (z - mean) dy + mean sum dy. The last sum is 0 if nothing
    is silent, and must be so exactly: a large mean would blow up its rounding.
    """
    if is_constant(y):
        return np.full(Z.shape[1], np.nan)
    dy = y - y.mean()
    centred = Z.data - moments.mean[column_of_each(Z)]
    fired_dy = np.where(moments.support < len(y), column_reduce(np.add, dy[Z.indices], Z), 0.0)
    covariance = column_reduce(np.add, centred * dy[Z.indices], Z) + moments.mean * fired_dy
    length = np.sqrt(np.where(moments.constant, np.nan, moments.squares)) * np.sqrt(dy @ dy)
    return np.clip(covariance / length, -1, 1)


def mean_over(Z: csc_array, values: FloatArray, chosen: BoolArray) -> FloatArray:
    """Mean of each column over the chosen samples, silent ones as 0; nan if none is chosen."""
    if not chosen.any():
        return np.full(Z.shape[1], np.nan)
    return column_reduce(np.add, values * chosen[Z.indices], Z) / chosen.sum()


def column_reduce(ufunc: np.ufunc, values: FloatArray, Z: csc_array) -> FloatArray:
    """Reduce `values`, one for each stored entry of Z, within each column; 0 for columns without any."""
    filled = np.diff(Z.indptr) > 0
    result = np.zeros(Z.shape[1])
    if filled.any():  # an empty column would make reduceat return its neighbour's value
        result[filled] = ufunc.reduceat(values, Z.indptr[:-1][filled])
    return result


def column_of_each(Z: csc_array) -> IntArray:
    """The column of each stored entry, shape (stored,)."""
    return np.repeat(np.arange(Z.shape[1]), np.diff(Z.indptr))


def chunks(count: int, width: int) -> Iterator[range]:
    """Cut range(count) so that a float64 block (chunk, width) stays within BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // (8 * max(1, width)))
    for start in range(0, count, step):
        yield range(start, min(count, start + step))


def two_sided(y: FloatArray) -> bool:
    """Whether there are both successes and failures."""
    return not is_constant(y > 0.5)


def checked(Z: csc_array, y: ArrayLike) -> tuple[csc_array, FloatArray]:
    """Z with float64 values and no stored zero or duplicate, and y as float64; the caller's arrays stay as they are."""
    outcome = np.asarray(y, dtype=np.float64)
    if outcome.ndim != 1 or len(outcome) != Z.shape[0]:
        raise CorrSteerError(
            f"Activations and outcomes must be of the same samples; found {Z.shape[0]} rows and y of {outcome.shape}."
        )
    if not len(outcome):
        raise CorrSteerError("A correlation needs samples; found none.")
    if not np.all((outcome >= 0) & (outcome <= 1)):  # nan fails too
        raise CorrSteerError(
            "Outcomes must be numbers within [0, 1]; rescale the scorer's verdicts, drop missing ones."
        )
    Z = csc_array(Z, dtype=np.float64)
    if not np.isfinite(Z.data).all():
        raise CorrSteerError("An activation is not a finite number: the model or the SAE overflowed; try float32.")
    if not (Z.has_canonical_format and np.all(Z.data)):
        Z = Z.copy()
        Z.sum_duplicates()
        Z.eliminate_zeros()
    return Z, outcome
