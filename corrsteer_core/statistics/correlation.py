"""From pooled activations of one layer, or of several, to what correlates with the outcome, and how surely.

Pooled activations come as Z, a sparse column array (samples, features): what is not stored is
silent, z = 0. Outcomes come as y, shape (samples,), in [0, 1], 1 being success. Everything is
computed in float64 from the stored entries; no dense (samples, features) array of a whole layer is
ever formed. Knows nothing of models, SAEs or storage, and chooses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.sparse import csc_array, csr_array

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.rates import FloatArray, Intervals

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Dense blocks stay about this large, whatever the numbers of samples, features and permutations.
_BLOCK_BYTES = 8 * 2**20

# Two values of r this close are one: permutations that tie with the data must count as reaching it.
_TIE = 1e-12


@dataclass(frozen=True)
class FeatureStats:
    """One layer's features beside the outcome; every field has shape (features,).

    `vars(stats)` is a dict of columns. A share over no samples is nan.
    """

    r: FloatArray  # Pearson r of z and y, silent samples as z = 0; nan where z or y is constant
    c: FloatArray  # coefficient: mean z over the samples with y > 0; nan if there are none
    mean_z: FloatArray  # over all samples, silent ones included
    max_z: FloatArray  # over all samples, silent ones included
    support: IntArray  # samples in which the feature fired (z != 0)
    frequency: FloatArray  # support / samples
    frequency_correct: FloatArray  # share of the samples with y > 0.5 in which it fired
    frequency_incorrect: FloatArray  # share of the other samples in which it fired


def correlate(Z: csc_array, y: ArrayLike) -> FeatureStats:
    """Correlation, coefficient and frequencies of every feature of one layer.

    `Z`: sparse (samples, features); `y`: (samples,). Raises CorrSteerError for lengths that
    differ, no samples, values that are not finite, or outcomes outside [0, 1].
    """
    Z, y = _checked(Z, y)
    moments = _moments(Z)
    success, rewarded = y > 0.5, y > 0
    return FeatureStats(
        r=_pearson(Z, y, moments),
        c=_mean_over(Z, Z.data, rewarded),
        mean_z=moments.mean,
        max_z=np.where(moments.support < len(y), np.maximum(moments.highest, 0), moments.highest),
        support=moments.support,
        frequency=moments.support / len(y),
        frequency_correct=_mean_over(Z, np.ones_like(Z.data), success),
        frequency_incorrect=_mean_over(Z, np.ones_like(Z.data), ~success),
    )


def is_constant(y: ArrayLike) -> bool:
    """Whether all outcomes are equal (or there are none), so that nothing can correlate with them."""
    values = np.asarray(y)
    return values.size == 0 or bool(values.min() == values.max())


# --- what chance reaches -----------------------------------------------------------------------


@dataclass(frozen=True)
class ChanceMaxima:
    """The best of `features` features under each permutation of the outcomes; nan if there are none.

    `level_r` and `level_abs_r` are what chance stays at or below with probability `level`:
    r > level_r exactly when p_of_best(r) <= 1 - level.
    """

    max_r: FloatArray  # (permutations,)
    max_abs_r: FloatArray  # (permutations,)
    features: int
    level_r: float
    level_abs_r: float

    def p_of_best(self, r: float, *, absolute: bool = False) -> float:
        """p of a best correlation `r`, corrected for having searched: (1 + #{max >= r}) / (1 + permutations).

        `absolute` is for a search among negative features too. nan for nan, or if nothing was
        searched. Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39; the maximum over
        features is Westfall & Young's (1993), so dependence among features is accounted for.
        """
        maxima, found = (self.max_abs_r, abs(r)) if absolute else (self.max_r, r)
        if np.isnan(found) or np.isnan(maxima).any():
            return float("nan")
        return float((1 + np.sum(maxima >= found - _TIE)) / (1 + len(maxima)))


@dataclass(frozen=True)
class PermutationLevels:
    """What the best feature reaches by chance, in each layer and in all layers together."""

    by_layer: dict[int, ChanceMaxima]
    overall: ChanceMaxima
    permutations: int
    floor: int  # support below which a feature took no part
    level: float

    def p_of_best(self, r: float, *, layer: int | None = None, absolute: bool = False) -> float:
        """p of the best r of one layer, or (None) of all layers; see ChanceMaxima.p_of_best."""
        maxima = self.overall if layer is None else self.by_layer[layer]
        return maxima.p_of_best(r, absolute=absolute)


def permutation_levels(
    Z_by_layer: Mapping[int, csc_array] | Iterable[tuple[int, csc_array]],
    y: ArrayLike,
    *,
    permutations: int = 200,
    seed: int,
    floor: int,
    level: float = 0.95,
) -> PermutationLevels:
    """The highest r (and |r|) that any feature reaches when outcomes are dealt out at random.

    Each permutation is applied to all layers, so that the maximum over layers is one too. Layers are
    taken one at a time, as (layer, Z) pairs or from a mapping; none is kept.
    Features with support below `floor`, and constant ones, take no part. Time is about stored
    entries x permutations. Raises CorrSteerError as `correlate` does, and for too few
    permutations to show `level`.
    """
    if not 0 < level < 1 or _allowed(permutations, level) < 1:
        raise CorrSteerError(
            f"{permutations} permutations cannot show a level of {level}: it needs a level between 0 and 1 and at "
            "least 1 / (1 - level) - 1 permutations (19 for 0.95)."
        )
    by_layer, pools = {}, []
    pairs = Z_by_layer.items() if isinstance(Z_by_layer, Mapping) else Z_by_layer
    for layer, Z in pairs:
        Z, outcome = _checked(Z, y)
        features = _standardised(Z, outcome, floor)  # (eligible features, samples)
        maxima = _layer_maxima(features, outcome, permutations, seed)
        by_layer[layer] = _chance_maxima(*maxima, features.shape[0], level)
        pools.append(maxima)
    if not pools:
        raise CorrSteerError("Permutation needs the activations of at least one layer; found none.")
    tops, extents = (np.fmax.reduce(pool) for pool in zip(*pools, strict=True))  # fmax: over the layers that have any
    overall = _chance_maxima(tops, extents, sum(layer.features for layer in by_layer.values()), level)
    return PermutationLevels(by_layer, overall, permutations, floor, level)


def _allowed(permutations: int, level: float) -> int:
    """The largest k for which k / (1 + permutations), a p-value, is at most 1 - level."""
    return int((1 - level) * (1 + permutations) + 1e-9)  # 0.05 * 20 must be 1


def _chance_maxima(max_r: FloatArray, max_abs_r: FloatArray, features: int, level: float) -> ChanceMaxima:
    rank = max(0, len(max_r) - _allowed(len(max_r), level))
    return ChanceMaxima(max_r, max_abs_r, features, float(np.sort(max_r)[rank]), float(np.sort(max_abs_r)[rank]))


def _standardised(Z: csc_array, y: FloatArray, floor: int) -> csr_array:
    """Rows (features, samples) whose product with centred, unit-length outcomes is r; eligible features only.

    Centred outcomes sum to 0, so z need not be centred (and stays sparse). It is where the
    feature never is silent, since there a large mean would drown a small variance.
    """
    moments = _moments(Z)
    eligible = ~moments.constant & (moments.support >= floor) & (not is_constant(y))
    shift = np.where(moments.support == Z.shape[0], moments.mean, 0.0)
    length = np.sqrt(np.where(eligible, moments.squares, 1.0))
    columns = _columns(Z)
    values = (Z.data - shift[columns]) / length[columns]
    return csr_array(csc_array((values, Z.indices, Z.indptr), shape=Z.shape)[:, np.flatnonzero(eligible)].T)


def _layer_maxima(features: csr_array, y: FloatArray, permutations: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Highest r and highest |r| over `features` (m, n) for each permutation; nan if m = 0."""
    if not features.shape[0]:
        return np.full(permutations, np.nan), np.full(permutations, np.nan)
    blocks = [_block_maxima(features, block) for block in _permuted(y, permutations, seed)]
    tops, extents = zip(*blocks, strict=True)
    return np.concatenate(tops), np.concatenate(extents)


def _permuted(y: FloatArray, permutations: int, seed: int) -> Iterator[FloatArray]:
    """Blocks (samples, some permutations) of y, centred, of unit length; the same ones for every layer."""
    centred = y - y.mean()
    unit = centred / np.sqrt(centred @ centred)
    rng = np.random.default_rng(seed)
    for chunk in _chunks(permutations, len(y)):
        yield np.ascontiguousarray(np.stack([rng.permutation(unit) for _ in chunk]).T)


def _block_maxima(features: csr_array, outcomes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Highest r and |r| over `features` (m, n) for each column of `outcomes` (n, p); two arrays (p,)."""

    def extremes(chunk: range) -> tuple[FloatArray, FloatArray]:
        r = features[chunk.start : chunk.stop] @ outcomes  # (some features, p)
        return r.max(axis=0), r.min(axis=0)

    with ThreadPoolExecutor(_threads()) as pool:  # a sparse product lets other threads go on
        found = list(pool.map(extremes, _chunks(features.shape[0], outcomes.shape[1])))
    highest, lowest = np.max([top for top, _ in found], axis=0), np.min([bottom for _, bottom in found], axis=0)
    return np.clip(highest, -1, 1), np.clip(np.maximum(highest, -lowest), -1, 1)


def _threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- intervals ---------------------------------------------------------------------------------


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
    Z, outcome = _checked(Z_subset, y)
    dense = Z.toarray()
    # The median is 0 for most features, and for the rest near the values, so nothing cancels below.
    shifted = dense - np.median(dense, axis=0)
    rng = np.random.default_rng(seed)
    draws = (_weights(rng, len(chunk), len(outcome)) for chunk in _chunks(resamples, len(outcome)))
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


# --- rankings to compare with ------------------------------------------------------------------

# (Z, y) -> one score per feature, higher is better, nan where undefined.
Ranking = Callable[[csc_array, ArrayLike], FloatArray]


def pearson_r(Z: csc_array, y: ArrayLike) -> FloatArray:
    """Pearson r of z and y, the method's own ranking."""
    Z, y = _checked(Z, y)
    return _pearson(Z, y, _moments(Z))


def difference_of_means(Z: csc_array, y: ArrayLike) -> FloatArray:
    """Mean z over successes (y > 0.5) minus mean z over failures, in units of z; nan if one side is empty."""
    Z, y = _checked(Z, y)
    return _mean_over(Z, Z.data, y > 0.5) - _mean_over(Z, Z.data, y <= 0.5)


def fisher_ratio(Z: csc_array, y: ArrayLike) -> FloatArray:
    """(mean1 - mean0)^2 / (var1 + var0) of z over successes and failures; Duda & Hart (1973), section 4.10.

    Blind to sign. Variances are the population's. inf where z is constant on either side with
    different values; nan where z is constant altogether, or one side is empty.
    """
    Z, y = _checked(Z, y)
    if not _two_sided(y):
        return np.full(Z.shape[1], np.nan)
    sides = [_moments(Z[np.flatnonzero(side)]) for side in (y > 0.5, y <= 0.5)]
    gap = sides[0].mean - sides[1].mean
    # What is left of a constant side is rounding, which would turn inf into a large number.
    spread = sum(np.where(s.constant, 0.0, s.squares / s.samples) for s in sides)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(_moments(Z).constant, np.nan, gap**2 / spread)


def mutual_information(Z: csc_array, y: ArrayLike) -> FloatArray:
    """Mutual information, in nats, of fired or not (z != 0) and success or not (y > 0.5).

    Cover & Thomas, eq. 2.28. Blind to sign and to the size of z. nan if one side is empty.
    """
    Z, y = _checked(Z, y)
    if not _two_sided(y):
        return np.full(Z.shape[1], np.nan)
    n, fired, information = len(y), np.diff(Z.indptr), np.zeros(Z.shape[1])
    for side in (y > 0.5, y <= 0.5):
        both = _column_reduce(np.add, side[Z.indices].astype(np.float64), Z)
        # Counts, divided last: a share of 0 must not come out as -1e-17, for which rel_entr is inf, and
        # independence must come out as 0.
        information += special.rel_entr(both / n, fired * side.sum() / n**2)
        information += special.rel_entr((side.sum() - both) / n, (n - fired) * side.sum() / n**2)
    return information


RANKINGS: dict[str, Ranking] = {
    "pearson_r": pearson_r,
    "difference_of_means": difference_of_means,
    "fisher_ratio": fisher_ratio,
    "mutual_information": mutual_information,
}


# --- how many samples are enough ---------------------------------------------------------------


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
        rows = csr_array(_checked(Z_by_layer[layer], outcome)[0])[order]  # csr, since parts are slices of rows
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
    moments = _moments(Z)
    r = np.where(moments.support >= floor, _pearson(Z, y, moments), np.nan)
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


# --- sums over stored entries ------------------------------------------------------------------


@dataclass(frozen=True)
class _Moments:
    """Of each column of a sparse array: what both r and its null distribution need."""

    samples: int
    support: IntArray
    mean: FloatArray
    highest: FloatArray  # of the stored values, 0 if there are none
    squares: FloatArray  # sum over all samples of (z - mean)^2
    constant: BoolArray


def _moments(Z: csc_array) -> _Moments:
    """Two passes, since sum z^2 - n mean^2 loses every digit when the mean is large and the variance small."""
    n, support, columns = Z.shape[0], np.diff(Z.indptr).astype(np.int64), _columns(Z)
    silent = n - support
    mean = _column_reduce(np.add, Z.data, Z) / n
    squares = _column_reduce(np.add, (Z.data - mean[columns]) ** 2, Z) + silent * mean**2
    lowest, highest = _column_reduce(np.minimum, Z.data, Z), _column_reduce(np.maximum, Z.data, Z)
    # squares is 0 for silent features, but not for a constant whose mean was rounded.
    constant = (squares == 0) | ((silent == 0) & (lowest == highest))
    return _Moments(n, support, mean, highest, squares, constant)


def _pearson(Z: csc_array, y: FloatArray, moments: _Moments) -> FloatArray:
    """r of each column with y; nan where either is constant.

    Over stored entries, sum z dy = sum (z - mean) dy + mean sum dy. The last sum is 0 if nothing
    is silent, and must be so exactly: a large mean would blow up its rounding.
    """
    if is_constant(y):
        return np.full(Z.shape[1], np.nan)
    dy = y - y.mean()
    centred = Z.data - moments.mean[_columns(Z)]
    fired_dy = np.where(moments.support < len(y), _column_reduce(np.add, dy[Z.indices], Z), 0.0)
    covariance = _column_reduce(np.add, centred * dy[Z.indices], Z) + moments.mean * fired_dy
    length = np.sqrt(np.where(moments.constant, np.nan, moments.squares)) * np.sqrt(dy @ dy)
    return np.clip(covariance / length, -1, 1)


def _mean_over(Z: csc_array, values: FloatArray, chosen: BoolArray) -> FloatArray:
    """Mean of each column over the chosen samples, silent ones as 0; nan if none is chosen."""
    if not chosen.any():
        return np.full(Z.shape[1], np.nan)
    return _column_reduce(np.add, values * chosen[Z.indices], Z) / chosen.sum()


def _column_reduce(ufunc: np.ufunc, values: FloatArray, Z: csc_array) -> FloatArray:
    """Reduce `values`, one for each stored entry of Z, within each column; 0 for columns without any."""
    filled = np.diff(Z.indptr) > 0
    result = np.zeros(Z.shape[1])
    if filled.any():  # an empty column would make reduceat return its neighbour's value
        result[filled] = ufunc.reduceat(values, Z.indptr[:-1][filled])
    return result


def _columns(Z: csc_array) -> IntArray:
    """The column of each stored entry, shape (stored,)."""
    return np.repeat(np.arange(Z.shape[1]), np.diff(Z.indptr))


def _chunks(count: int, width: int) -> Iterator[range]:
    """Cut range(count) so that a float64 block (chunk, width) stays within _BLOCK_BYTES."""
    step = max(1, _BLOCK_BYTES // (8 * max(1, width)))
    for start in range(0, count, step):
        yield range(start, min(count, start + step))


def _two_sided(y: FloatArray) -> bool:
    """Whether there are both successes and failures."""
    return not is_constant(y > 0.5)


def _checked(Z: csc_array, y: ArrayLike) -> tuple[csc_array, FloatArray]:
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
