"""What the best of many features reaches by chance: outcomes permuted, the maximum over features kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csc_array, csr_array

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.correlation.sparse_columns import checked, chunks, column_of_each, is_constant, moments_of
from corrsteer_core.statistics.rates import FloatArray

# Two values of r this close are one: permutations that tie with the data must count as reaching it.
_TIE = 1e-12


@dataclass(frozen=True)
class ChanceMaxima:
    """The best of `features` features under each permutation of the outcomes; nan if there are none.

    `level_r` is what chance stays at or below with probability `level`: r > level_r exactly when p_of_best(r) <= 1 - level.
    """

    max_r: FloatArray  # (permutations,)
    features: int
    level_r: float

    def p_of_best(self, r: float) -> float:
        """p of a best correlation `r`, corrected for having searched: (1 + #{max >= r}) / (1 + permutations).

        nan for nan, or if nothing was searched. Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39; the maximum
        over features is Westfall & Young's (1993), so dependence among features is accounted for.
        """
        if np.isnan(r) or np.isnan(self.max_r).any():
            return float("nan")
        return float((1 + np.sum(self.max_r >= r - _TIE)) / (1 + len(self.max_r)))


@dataclass(frozen=True)
class PermutationLevels:
    """What the best feature reaches by chance, in each layer and in all layers together."""

    by_layer: dict[int, ChanceMaxima]
    overall: ChanceMaxima
    permutations: int
    floor: int  # support below which a feature took no part
    level: float

    def p_of_best(self, r: float, *, layer: int | None = None) -> float:
        """p of the best r of one layer, or (None) of all layers; see ChanceMaxima.p_of_best."""
        maxima = self.overall if layer is None else self.by_layer[layer]
        return maxima.p_of_best(r)


def permutation_levels(
    Z_by_layer: Mapping[int, csc_array] | Iterable[tuple[int, csc_array]],
    y: ArrayLike,
    *,
    permutations: int = 200,
    seed: int,
    floor: int,
    level: float = 0.95,
) -> PermutationLevels:
    """The highest r that any feature reaches when outcomes are dealt out at random.

    Each permutation is applied to all layers, so that the maximum over layers is one too. Layers are
    taken one at a time, as (layer, Z) pairs or from a mapping; none is kept.
    Features with support below `floor`, and constant ones, take no part. Time is about stored
    entries x permutations. Raises CorrSteerError as `correlate` does, and for too few
    permutations to show `level`.
    """
    if not 0 < level < 1 or allowed(permutations, level) < 1:
        raise CorrSteerError(
            f"{permutations} permutations cannot show a level of {level}: it needs a level between 0 and 1 and at "
            "least 1 / (1 - level) - 1 permutations (19 for 0.95)."
        )
    by_layer, pools = {}, []
    pairs = Z_by_layer.items() if isinstance(Z_by_layer, Mapping) else Z_by_layer
    for layer, Z in pairs:
        Z, outcome = checked(Z, y)
        features = _standardised(Z, outcome, floor)  # (eligible features, samples)
        maxima = _layer_maxima(features, outcome, permutations, seed)
        by_layer[layer] = chance_maxima(maxima, features.shape[0], level)
        pools.append(maxima)
    if not pools:
        raise CorrSteerError("Permutation needs the activations of at least one layer; found none.")
    max_r = np.fmax.reduce(pools)  # fmax: over the layers that have any
    overall = chance_maxima(max_r, sum(layer.features for layer in by_layer.values()), level)
    return PermutationLevels(by_layer, overall, permutations, floor, level)


def allowed(permutations: int, level: float) -> int:
    """The largest k for which k / (1 + permutations), a p-value, is at most 1 - level."""
    return int((1 - level) * (1 + permutations) + 1e-9)  # 0.05 * 20 must be 1


def chance_maxima(max_r: FloatArray, features: int, level: float) -> ChanceMaxima:
    """With the level that goes with the highest r of `features` under each permutation, (permutations,)."""
    rank = max(0, len(max_r) - allowed(len(max_r), level))
    return ChanceMaxima(max_r, features, float(np.sort(max_r)[rank]))


def _standardised(Z: csc_array, y: FloatArray, floor: int) -> csr_array:
    """Rows (features, samples) whose product with centred, unit-length outcomes is r; eligible features only.

    Centred outcomes sum to 0, so z need not be centred (and stays sparse). It is where the
    feature never is silent, since there a large mean would drown a small variance.
    """
    moments = moments_of(Z)
    eligible = ~moments.constant & (moments.support >= floor) & (not is_constant(y))
    shift = np.where(moments.support == Z.shape[0], moments.mean, 0.0)
    length = np.sqrt(np.where(eligible, moments.squares, 1.0))
    columns = column_of_each(Z)
    values = (Z.data - shift[columns]) / length[columns]
    return csr_array(csc_array((values, Z.indices, Z.indptr), shape=Z.shape)[:, np.flatnonzero(eligible)].T)


def _layer_maxima(features: csr_array, y: FloatArray, permutations: int, seed: int) -> FloatArray:
    """Highest r over `features` (m, n) for each permutation; nan if m = 0."""
    if not features.shape[0]:
        return np.full(permutations, np.nan)
    return np.concatenate([_block_maxima(features, block) for block in _permuted(y, permutations, seed)])


def _permuted(y: FloatArray, permutations: int, seed: int) -> Iterator[FloatArray]:
    """Blocks (samples, some permutations) of y, centred, of unit length; the same ones for every layer."""
    centred = y - y.mean()
    unit = centred / np.sqrt(centred @ centred)
    rng = np.random.default_rng(seed)
    for chunk in chunks(permutations, len(y)):
        yield np.ascontiguousarray(np.stack([rng.permutation(unit) for _ in chunk]).T)


def _block_maxima(features: csr_array, outcomes: FloatArray) -> FloatArray:
    """Highest r over `features` (m, n) for each column of `outcomes` (n, p); (p,)."""

    def highest(chunk: range) -> FloatArray:
        r = features[chunk.start : chunk.stop] @ outcomes  # (some features, p)
        return r.max(axis=0)

    with ThreadPoolExecutor(_threads()) as pool:  # a sparse product lets other threads go on
        found = list(pool.map(highest, chunks(features.shape[0], outcomes.shape[1])))
    return np.clip(np.max(found, axis=0), -1, 1)


def _threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
