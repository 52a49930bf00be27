"""Correlation of activations and outcomes within the class of the right answer.

A feature that fires on positive reviews correlates with success whenever the model says "Positive" too often, whatever it
has to do with answering. Within a class that is gone: z and y are both centred within each class of the right answer, and
their products pooled over classes. This is the partial correlation of z and y given the class (Fisher 1924, Metron
3:329-332; Anderson 2003, section 4.3): the r of the residuals after a regression on one indicator per class. It has
K - 1 degrees of freedom less, so its p is `pearson_p(r, n - (K - 1))` with K classes among the samples.

Z is a sparse column array (samples, features) as in `correlation`: what is not stored is 0. No dense array is formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array, csr_array

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.correlation.chance import ChanceMaxima, PermutationLevels, allowed, chance_maxima
from corrsteer_core.statistics.rates import FloatArray

IntArray = NDArray[np.int64]

# Two values of r this close are one: permutations that tie with the data must count as reaching it.
_TIE = 1e-9
_BLOCK_BYTES = 8 * 2**20  # dense blocks (features, permutations) and (permutations, samples) stay about this large


def within_class_r(Z: csc_array, y: ArrayLike, classes: ArrayLike) -> FloatArray:
    """Pooled within-class r of every feature, (features,), in [-1, 1]; nan where z or y is constant within every class.

    `Z`: sparse (samples, features); `y`: (samples,) in [0, 1]; `classes`: (samples,), any values, equal ones being one class.
    With one class this is Pearson's r. Raises CorrSteerError for lengths that differ, no samples, or values not finite.
    """
    Z, outcome, members = _checked(Z, y, classes)
    dy = _centred(outcome, members)
    groups = _grouped(Z, members)
    # A group's silent samples add -mean * (sum of their dy) = mean * (sum of the others' dy), since dy sums to 0 in a class.
    fired_dy = np.bincount(groups.of_entry, dy[Z.indices], groups.count)
    silent_part = _by_feature(np.where(groups.silent > 0, groups.mean * fired_dy, 0.0), Z.shape[1])
    covariance = np.bincount(groups.columns, groups.residual * dy[Z.indices], Z.shape[1]) + silent_part
    length = np.sqrt(groups.squares) * np.sqrt(dy @ dy)
    return np.clip(np.where(length > 0, covariance / np.where(length > 0, length, 1.0), np.nan), -1, 1)


@dataclass(frozen=True)
class WithinClassStats:
    """One layer's features, (features,) each; nan where undefined."""

    r: FloatArray
    p: FloatArray


class WithinClass:
    """r within the class of every feature, and what chance makes of it: outcomes dealt out at random within each class.

    Layers are added one by one; one permutation is applied to all of them. Permuting within strata keeps what the null
    hypothesis leaves as it is: Good (2005), Permutation, Parametric, and Bootstrap Tests, section 6.2. Features with
    support below `floor`, and those that are constant within every class, have no p and take no part in the maxima.
    """

    def __init__(
        self, y: ArrayLike, classes: ArrayLike, *, permutations: int, seed: int, floor: int, level: float = 0.95
    ) -> None:
        if not 0 < level < 1 or allowed(permutations, level) < 1:
            raise CorrSteerError(
                f"{permutations} permutations cannot show a level of {level}: it needs a level between 0 and 1 and at "
                "least 1 / (1 - level) - 1 permutations (19 for 0.95)."
            )
        self.y, self.classes = y, classes
        self.permutations, self.seed, self.floor, self.level = permutations, seed, floor, level
        self._by_layer: dict[int, ChanceMaxima] = {}
        self._pools: list[FloatArray] = []

    def add(self, layer: int, Z: csc_array) -> WithinClassStats:
        """r within the class and its two-sided permutation p, (features,) each, nan where undefined.

        p is (1 + permutations in which the feature's own |r| is as large) / (1 + permutations), for this feature alone:
        Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39.
        """
        r = within_class_r(Z, self.y, self.classes)
        features, dy, members, eligible = _standardised(Z, self.y, self.classes, self.floor)
        found = _permutation_counts(features, dy, members, np.abs(r[eligible]), self.permutations, self.seed)
        p = np.full(Z.shape[1], np.nan)
        p[eligible] = (1 + found.reached) / (1 + self.permutations)
        self._by_layer[layer] = chance_maxima(found.highest, features.shape[0], self.level)
        self._pools.append(found.highest)
        return WithinClassStats(r, p)

    def levels(self) -> PermutationLevels:
        """The highest r of any feature in each permutation, of each layer and of all that were added."""
        if not self._pools:
            raise CorrSteerError("Permutation needs the activations of at least one layer; found none.")
        features = sum(one.features for one in self._by_layer.values())
        overall = chance_maxima(np.fmax.reduce(self._pools), features, self.level)
        return PermutationLevels(dict(self._by_layer), overall, self.permutations, self.floor, self.level)


# --- groups: one feature within one class ------------------------------------------------------


@dataclass(frozen=True)
class _Groups:
    """Entries of Z grouped by (class, feature); a group's number is class * features + feature."""

    count: int
    columns: IntArray  # (stored,) the feature of each stored entry
    of_entry: IntArray  # (stored,) the group of each stored entry
    silent: IntArray  # (groups,) samples of the class in which the feature is 0
    mean: FloatArray  # (groups,) after `shift` is taken off
    shift: FloatArray  # (groups,) some value of the group if nothing in it is silent, else 0
    residual: FloatArray  # (stored,) z minus its group's mean
    squares: FloatArray  # (features,) sum over samples of (z - mean of its group)^2


def _grouped(Z: csc_array, members: IntArray) -> _Groups:
    """Two passes, after a shift that makes groups of equal values exactly 0: rounding must not pass for variance."""
    sizes = np.bincount(members)
    features, count = Z.shape[1], len(sizes) * Z.shape[1]
    columns = np.repeat(np.arange(features), np.diff(Z.indptr))
    of_entry = members[Z.indices] * features + columns
    silent = np.repeat(sizes, features) - np.bincount(of_entry, minlength=count)
    value = np.zeros(count)
    value[of_entry] = Z.data
    shift = np.where(silent == 0, value, 0.0)
    shifted = Z.data - shift[of_entry]
    mean = np.bincount(of_entry, shifted, count) / np.repeat(sizes, features)
    residual = shifted - mean[of_entry]
    squares = np.bincount(columns, residual**2, features) + _by_feature(silent * mean**2, features)
    return _Groups(count, columns, of_entry, silent, mean, shift, residual, squares)


def _by_feature(of_groups: FloatArray, features: int) -> FloatArray:
    """Sum over classes of one number per group: (features,)."""
    return of_groups.reshape(-1, features).sum(axis=0)


def _centred(y: FloatArray, members: IntArray) -> FloatArray:
    """y minus the mean of its class, (samples,); exactly 0 in a class where all are equal."""
    first = np.zeros(members.max() + 1)
    first[members] = y
    shifted = y - first[members]
    return shifted - (np.bincount(members, shifted) / np.bincount(members))[members]


# --- permutations ------------------------------------------------------------------------------


def _standardised(
    Z: csc_array, y: ArrayLike, classes: ArrayLike, floor: int
) -> tuple[csr_array, FloatArray, IntArray, IntArray]:
    """Rows (eligible features, samples) whose product with class-centred, unit-length outcomes is the within-class r.

    With these outcomes, the numbers of the classes, and the numbers of the eligible features.
    """
    Z, outcome, members = _checked(Z, y, classes)
    dy = _centred(outcome, members)
    groups = _grouped(Z, members)
    eligible = (groups.squares > 0) & (np.diff(Z.indptr) >= floor) & bool(dy.any())
    length = np.sqrt(np.where(eligible, groups.squares, 1.0))
    # z need not be centred where something is silent (and stays sparse), since outcomes sum to 0 in every class.
    whole = groups.silent[groups.of_entry] == 0
    values = np.where(whole, groups.residual, Z.data) / length[groups.columns]
    some = np.flatnonzero(eligible)
    rows = csr_array(csc_array((values, Z.indices, Z.indptr), shape=Z.shape)[:, some].T)
    return rows, dy / (np.sqrt(dy @ dy) or 1.0), members, some


@dataclass(frozen=True)
class _Counts:
    """What permutations make of some features."""

    highest: FloatArray  # (permutations,) highest r of any; nan without features
    reached: IntArray  # (features,) permutations in which the feature's |r| is at least the one seen


def _permutation_counts(
    features: csr_array, dy: FloatArray, members: IntArray, seen: FloatArray, permutations: int, seed: int
) -> _Counts:
    """`seen` is the |r| of each of `features` under the outcomes as they are."""
    count = features.shape[0]
    top = np.full(permutations, -np.inf)
    reached, done = np.zeros(count, dtype=np.int64), 0
    for outcomes in _permuted(dy, members, permutations, seed):
        some = slice(done, done + outcomes.shape[1])
        step = max(1, _BLOCK_BYTES // (8 * outcomes.shape[1]))
        for i in range(0, count, step):
            r = features[i : i + step] @ outcomes  # (some features, some permutations)
            top[some] = np.maximum(top[some], r.max(axis=0))
            reached[i : i + step] += (np.abs(r) >= seen[i : i + step, None] - _TIE).sum(axis=1)
        done = some.stop
    if not count:
        return _Counts(np.full(permutations, np.nan), reached)
    return _Counts(np.clip(top, -1, 1), reached)


def _permuted(dy: FloatArray, members: IntArray, permutations: int, seed: int) -> Iterator[FloatArray]:
    """Blocks (samples, some permutations) of dy permuted within each class; the same ones for every layer.

    Random numbers are sorted within classes: the samples of a class, in a random order, take the places of the class.
    """
    rng = np.random.default_rng(seed)
    places = np.argsort(members, kind="stable")
    step = max(1, _BLOCK_BYTES // (8 * len(dy)))
    for start in range(0, permutations, step):
        keys = (
            rng.random((min(step, permutations - start), len(dy))) + members
        )  # classes stay apart: keys are in [0, 1)
        dealt = np.empty_like(keys)
        dealt[:, places] = dy[np.argsort(keys, axis=1)]
        yield np.ascontiguousarray(dealt.T)


# --- checks ------------------------------------------------------------------------------------


def _checked(Z: csc_array, y: ArrayLike, classes: ArrayLike) -> tuple[csc_array, FloatArray, IntArray]:
    """Z with float64 values, no stored 0 and nothing stored twice; y; and classes as numbers from 0."""
    outcome, names = np.asarray(y, dtype=np.float64), np.asarray(classes)
    if outcome.ndim != 1 or outcome.shape != names.shape or len(outcome) != Z.shape[0] or not len(outcome):
        raise CorrSteerError(
            "Activations, outcomes and classes must be of the same samples, at least one; "
            f"found {Z.shape[0]} rows, y of {outcome.shape}, classes of {names.shape}."
        )
    if not np.all((outcome >= 0) & (outcome <= 1)):  # nan fails too
        raise CorrSteerError("Outcomes must be numbers within [0, 1]; rescale the scorer's verdicts.")
    Z = csc_array(Z, dtype=np.float64, copy=True)
    if not np.isfinite(Z.data).all():
        raise CorrSteerError("An activation is not a finite number: the model or the SAE overflowed; try float32.")
    Z.sum_duplicates()
    Z.eliminate_zeros()
    return Z, outcome, np.unique(names, return_inverse=True)[1].ravel().astype(np.int64)
