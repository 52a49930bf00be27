"""Statistics of rates, flips and correlations: numbers and arrays in, numbers and arrays out.

Knows nothing of samples' texts, features or layers. Whatever is undefined is None (scalars that a
report prints) or nan (arrays); it is never replaced by a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.stats import binom

from corrsteer_core.base.errors import CorrSteerError

FloatArray = NDArray[np.float64]

# Rounding may leave a correlation of +-1 just outside; anything further out is not a correlation.
_R_TOLERANCE = 1e-9

NOISE = 0.05
"""A p-value that is not below this is within noise."""


class Interval(NamedTuple):
    """An interval of one quantity, in that quantity's units."""

    low: float
    high: float


class Intervals(NamedTuple):
    """Intervals of several quantities: two arrays of one shape, nan where undefined."""

    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Flips:
    """How many of `n` samples changed sides: `positive` from failure to success, `negative` back."""

    positive: int
    negative: int
    n: int


# --- rates and flips ---------------------------------------------------------------------------


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Score interval of a rate, `successes` of `n`; (0, 1), which says nothing, for n = 0.

    Wilson (1927), JASA 22:209. `successes` may be fractional (a sum of outcomes in [0, 1]); the
    interval is then at most too wide. Raises CorrSteerError unless 0 <= successes <= n.
    """
    z = _normal_quantile(level)
    if not 0 <= successes <= n:
        raise CorrSteerError(f"A rate needs 0 <= successes <= n; found {successes} of {n}.")
    if n == 0:
        return Interval(0.0, 1.0)
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # The formula reaches 0 and 1 exactly at these ends; rounding does not.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def flips(before: ArrayLike, after: ArrayLike) -> Flips:
    """Count the samples whose outcome changed sides; success is an outcome above 0.5.

    `before`, `after`: outcomes in [0, 1], shape (n,), of the same samples in the same order.
    Raises CorrSteerError for shapes that differ, values that are not finite, or outside [0, 1].
    """
    first, second = _paired(before, after)
    if min(first.min(initial=0), second.min(initial=0)) < 0 or max(first.max(initial=0), second.max(initial=0)) > 1:
        raise CorrSteerError("Outcomes must lie within [0, 1]; rescale the scorer's verdicts.")
    was, now = first > 0.5, second > 0.5
    return Flips(positive=int(np.sum(~was & now)), negative=int(np.sum(was & ~now)), n=len(was))


def mcnemar_p(positive_flips: int, negative_flips: int) -> float:
    """Exact two-sided p that flips go both ways equally often; 1 when nothing flipped.

    McNemar (1947) with the binomial distribution in place of chi-squared: of all flips, the rarer
    kind is Binomial(flips, 1/2); the distribution is symmetric, so the p is twice the lower tail.
    """
    _check_counts(positive_flips, negative_flips)
    return float(mcnemar_p_of(np.asarray(positive_flips), np.asarray(negative_flips)))


def mcnemar_p_of(positive_flips: NDArray[Any], negative_flips: NDArray[Any]) -> FloatArray:
    """`mcnemar_p` of whole columns of counts, unchecked."""
    fewer = np.minimum(positive_flips, negative_flips)
    return np.minimum(1.0, 2 * binom.cdf(fewer, positive_flips + negative_flips, 0.5))


def ser(positive_flips: int, negative_flips: int) -> float | None:
    """Side effect ratio: negative flips / all flips (CorrSteer, arXiv 2508.12535); None when nothing flipped."""
    _check_counts(positive_flips, negative_flips)
    total = positive_flips + negative_flips
    return negative_flips / total if total else None


def negative_share(negative_flips: int, changed: int) -> float | None:
    """Negative flips / samples whose text changed; None when no text changed.

    Raises CorrSteerError for more negative flips than changed texts: one text had two verdicts.
    """
    _check_counts(negative_flips, changed)
    if negative_flips > changed:
        raise CorrSteerError(
            f"{negative_flips} negative flips but only {changed} changed texts: the scorer gave one text two "
            "verdicts. Make it deterministic, or score each text once."
        )
    return negative_flips / changed if changed else None


# --- correlations ------------------------------------------------------------------------------


def pearson_p(r: ArrayLike, n: ArrayLike) -> FloatArray:
    """Two-sided p of a Pearson correlation `r` over `n` samples under no association, in r's shape.

    Student's t = r sqrt((n - 2) / (1 - r^2)) with n - 2 degrees of freedom, written as the
    incomplete beta function I_{1 - r^2}((n - 2) / 2, 1/2) so that r = 1 needs no special case
    (Abramowitz & Stegun 26.7.1). Exact when either variable is normal; approximate for sparse
    features, for which `correlation.permutation_levels` is the check. nan where r is nan or n < 3.
    """
    rs, ns = _checked_r(r), np.asarray(n, dtype=np.float64)
    shape = np.where(ns >= 3, (ns - 2) / 2, np.nan)
    return special.betainc(shape, 0.5, (1 - rs) * (1 + rs))


def benjamini_hochberg(p: ArrayLike) -> FloatArray:
    """q-values: the lowest false discovery rate at which each hypothesis would be rejected.

    Benjamini & Hochberg (1995), JRSS B 57:289: q_(i) = min over j >= i of m p_(j) / j. nan stays
    nan and does not count in m. Any shape; all values form one family. Raises CorrSteerError
    for p outside [0, 1].
    """
    values = np.asarray(p, dtype=np.float64)
    tested = values[~np.isnan(values)]
    if np.any((tested < 0) | (tested > 1)):
        raise CorrSteerError("p-values must lie within [0, 1].")
    order = np.argsort(tested)
    scaled = tested[order] * len(tested) / np.arange(1, len(tested) + 1)
    adjusted = np.empty_like(tested)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    q = np.full_like(values, np.nan)
    q[~np.isnan(values)] = adjusted  # at most the largest p, so never above 1
    return q


# --- checks ------------------------------------------------------------------------------------


def _normal_quantile(level: float) -> float:
    """z with P(|N(0, 1)| <= z) = level."""
    if not 0 < level < 1:
        raise CorrSteerError(f"A confidence level must lie between 0 and 1, as in 0.95; found {level}.")
    return float(special.ndtri((1 + level) / 2))


def _check_counts(*counts: int) -> None:
    if min(counts) < 0:
        raise CorrSteerError(f"Counts cannot be negative; found {', '.join(map(str, counts))}.")


def _checked_r(r: ArrayLike) -> FloatArray:
    values = np.asarray(r, dtype=np.float64)
    if np.any(np.abs(values) > 1 + _R_TOLERANCE):
        raise CorrSteerError("A correlation must lie within [-1, 1].")
    return np.clip(values, -1, 1)


def _paired(before: ArrayLike, after: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise CorrSteerError(
            f"Outcomes before and after must be of the same samples; found shapes {first.shape} and {second.shape}."
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise CorrSteerError("An outcome is not a finite number; score every sample before comparing.")
    return first, second


def interval_of_difference(one: float, of_one: Interval, other: float, of_other: Interval) -> Interval:
    """Of one estimate less another one of other samples, from the interval of each: MOVER (Zou and Donner 2008, eq. 2)."""
    low = math.hypot(one - of_one[0], of_other[1] - other)
    high = math.hypot(of_one[1] - one, other - of_other[0])
    return Interval(one - other - low, one - other + high)
