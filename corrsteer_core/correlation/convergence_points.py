"""What fewer samples would have found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array, csr_array

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.correlation.rankings import pearson_r
from corrsteer_core.correlation.sparse_columns import checked, moments_of, pearson
from corrsteer_core.statistics.rates import FloatArray


@dataclass(frozen=True)
class ConvergencePoint:
    """What a run of only `size` samples would have found."""

    size: int
    overlap: float  # Jaccard overlap of its top features with those of all samples; nan if neither has any
    best_r: float  # r, at this size, of the feature that is best over all samples; nan if undefined


def convergence(
    Z_by_layer: Mapping[int, csc_array], y: ArrayLike, sizes: Sequence[int], *, seed: int, top: int, floor: int
) -> list[ConvergencePoint]:
    """Compare the `top` features of highest r among growing parts of the samples with those of all.

    Parts are prefixes of one permutation of the samples, so each contains the smaller ones.
    `floor` is the least support at every size, as a run of that size would apply it. Points come
    in the order of `sizes`. Raises CorrSteerError for a size not in 1..samples, or top < 1.
    """
    outcome = np.asarray(y, dtype=np.float64)
    if top < 1 or any(not 1 <= size <= len(outcome) for size in sizes):
        raise CorrSteerError(f"Sizes must lie in 1..{len(outcome)} and top be positive; found {list(sizes)}, {top}.")
    order = np.random.default_rng(seed).permutation(len(outcome))
    found: list[list[_Ranked]] = [[] for _ in (len(outcome), *sizes)]
    for layer in Z_by_layer:  # not its items: a mapping that reads a layer when asked then holds one at a time
        rows = csr_array(checked(Z_by_layer[layer], outcome)[0])[order]  # csr, since parts are slices of rows
        for candidates, size in zip(found, (len(outcome), *sizes), strict=True):
            candidates += _top(csc_array(rows[:size]), outcome[order[:size]], layer, top, floor)
    final, *parts = ([(layer, feature) for _, layer, feature in sorted(each)[:top]] for each in found)
    points = []
    for size, part in zip(sizes, parts, strict=True):
        best = _r_of(final[0], Z_by_layer, outcome, order[:size]) if final else float("nan")
        points.append(ConvergencePoint(size, _jaccard(set(part), set(final)), best))
    return points


# (-r, layer, feature): sorts best first, ties to the lower layer, then the lower feature.
_Ranked = tuple[float, int, int]


def _top(Z: csc_array, y: FloatArray, layer: int, top: int, floor: int) -> list[_Ranked]:
    """The `top` features of highest r among those of one layer whose support reaches the floor."""
    moments = moments_of(Z)
    r = np.where(moments.support >= floor, pearson(Z, y, moments), np.nan)
    best = np.argsort(-r, kind="stable")[: min(top, int(np.sum(~np.isnan(r))))]  # nan sorts last
    return [(-float(r[feature]), layer, int(feature)) for feature in best]


def _r_of(
    named: tuple[int, int], Z_by_layer: Mapping[int, csc_array], y: FloatArray, samples: NDArray[np.intp]
) -> float:
    """r of one (layer, feature) over some samples, whatever its support."""
    layer, feature = named
    column = csc_array(csc_array(Z_by_layer[layer])[:, [feature]])
    return float(pearson_r(csc_array(column[samples]), y[samples])[0])


def _jaccard(a: set[tuple[int, int]], b: set[tuple[int, int]]) -> float:
    return len(a & b) / len(a | b) if a | b else float("nan")
