"""Scores by which features can be ranked, one entry of RANKINGS each; r is the method's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.sparse import csc_array

from corrsteer_core.correlation.sparse_columns import checked, column_reduce, mean_over, moments_of, pearson, two_sided
from corrsteer_core.correlation.within_class import within_class_r
from corrsteer_core.statistics.rates import FloatArray

# (Z, y) -> one score per feature, higher is better, nan where undefined. Those of BY_CLASS also take each sample's class.
Ranking = Callable[..., FloatArray]


def pearson_r(Z: csc_array, y: ArrayLike) -> FloatArray:
    """Pearson r of z and y, the method's own ranking."""
    Z, y = checked(Z, y)
    return pearson(Z, y, moments_of(Z))


def difference_of_means(Z: csc_array, y: ArrayLike) -> FloatArray:
    """Mean z over successes (y > 0.5) minus mean z over failures, in units of z; nan if one side is empty."""
    Z, y = checked(Z, y)
    return mean_over(Z, Z.data, y > 0.5) - mean_over(Z, Z.data, y <= 0.5)


def fisher_ratio(Z: csc_array, y: ArrayLike) -> FloatArray:
    """(mean1 - mean0)^2 / (var1 + var0) of z over successes and failures; Duda & Hart (1973), section 4.10.

    Blind to sign. Variances are the population's. inf where z is constant on either side with
    different values; nan where z is constant altogether, or one side is empty.
    """
    Z, y = checked(Z, y)
    if not two_sided(y):
        return np.full(Z.shape[1], np.nan)
    sides = [moments_of(Z[np.flatnonzero(side)]) for side in (y > 0.5, y <= 0.5)]
    gap = sides[0].mean - sides[1].mean
    # What is left of a constant side is rounding, which would turn inf into a large number.
    spread = sum(np.where(s.constant, 0.0, s.squares / s.samples) for s in sides)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(moments_of(Z).constant, np.nan, gap**2 / spread)


def mutual_information(Z: csc_array, y: ArrayLike) -> FloatArray:
    """Mutual information, in nats, of fired or not (z != 0) and success or not (y > 0.5).

    Cover & Thomas, eq. 2.28. Blind to sign and to the size of z. nan if one side is empty.
    """
    Z, y = checked(Z, y)
    if not two_sided(y):
        return np.full(Z.shape[1], np.nan)
    n, fired, information = len(y), np.diff(Z.indptr), np.zeros(Z.shape[1])
    for side in (y > 0.5, y <= 0.5):
        both = column_reduce(np.add, side[Z.indices].astype(np.float64), Z)
        # Counts, divided last: a share of 0 must not come out as -1e-17, for which rel_entr is inf, and
        # independence must come out as 0.
        information += special.rel_entr(both / n, fired * side.sum() / n**2)
        information += special.rel_entr((side.sum() - both) / n, (n - fired) * side.sum() / n**2)
    return information


def within_class(Z: csc_array, y: ArrayLike, classes: ArrayLike | None = None) -> FloatArray:
    """r of z and y within the class of the right answer; without classes, all samples being of one, Pearson's r."""
    return within_class_r(Z, y, np.zeros(len(np.asarray(y))) if classes is None else classes)


RANKINGS: dict[str, Ranking] = {
    "pearson_r": pearson_r,
    "difference_of_means": difference_of_means,
    "fisher_ratio": fisher_ratio,
    "mutual_information": mutual_information,
    "within_class": within_class,
}
BY_CLASS = frozenset({"within_class"})
"""Rankings that are of use only where the task has classes, which they are given."""
