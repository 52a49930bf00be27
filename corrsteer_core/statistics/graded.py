"""Paired outcomes that are graded, in [0, 1] rather than failure or success: tested by their own size, not by flips.

Under the null hypothesis before and after could be swapped in each sample, so every difference could as well have the other
sign: Fisher (1935), The Design of Experiments, section 21. Outcomes that are 0 or 1 give McNemar's exact p.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.rates import FloatArray, Interval, mcnemar_p
from corrsteer_core.statistics.resampling import percentile_interval, weight_blocks

EXACT_UP_TO = 20
"""Differences other than 0 up to which all sign patterns are counted: 2^20 of them."""

DRAWS = 9_999
"""Sign patterns drawn where there are too many to count: the smallest p is then 0.0001."""

# Sums this close, relative to the largest possible one, are one: a pattern that ties with the data reaches it.
_TIE = 1e-12
_BLOCK = 2**20  # signs drawn at once


@dataclass(frozen=True)
class SignFlip:
    """Two-sided p that differences are as often up as down; `exact` where all sign patterns were counted."""

    p: float
    exact: bool


@dataclass(frozen=True)
class GradedChange:
    """Mean of after - before, its bootstrap interval (None for one sample), and the sign-flip test of it."""

    mean: float
    interval: Interval | None
    p: float
    exact: bool


def graded_change(
    before: ArrayLike, after: ArrayLike, *, seed: int, resamples: int = 2000, level: float = 0.95
) -> GradedChange:
    """Compare outcomes in [0, 1] of the same samples: (n,) each.

    The interval is the bootstrap's percentile interval and may disagree with the test where p is close to 1 - level; the
    test decides. Raises CorrSteerError for no samples, shapes that differ, or outcomes outside [0, 1].
    """
    difference = paired_differences(before, after)
    means = [weights @ difference / len(difference) for weights in weight_blocks(resamples, len(difference), seed)]
    interval = percentile_interval(np.concatenate(means), level) if len(difference) > 1 else None
    test = sign_flip(difference, seed=seed)
    return GradedChange(float(difference.mean()), interval, test.p, test.exact)


def paired_differences(before: ArrayLike, after: ArrayLike) -> FloatArray:
    """after - before, (n,), of outcomes in [0, 1]; CorrSteerError for what is no such pair."""
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise CorrSteerError(
            "Outcomes before and after must be of the same samples, at least one; "
            f"found shapes {first.shape} and {second.shape}."
        )
    both = np.concatenate([first, second])
    if not np.all((both >= 0) & (both <= 1)):  # nan fails too
        raise CorrSteerError("Outcomes must be numbers within [0, 1]; rescale the scorer's verdicts.")
    return second - first


def sign_flip(differences: ArrayLike, *, seed: int) -> SignFlip:
    """Share of sign patterns whose sum is at least as far from 0 as the one seen; 1 where all differences are 0.

    Differences of 0 change no sum and are left out. Where all others have one size, the sum is a number of flips and the
    p McNemar's. Up to EXACT_UP_TO of them all patterns are counted. Beyond, DRAWS are drawn and p is
    (1 + those that reach it) / (1 + DRAWS): Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39.
    """
    moved = np.asarray(differences, dtype=np.float64)
    moved = moved[moved != 0]
    if not np.isfinite(moved).all():
        raise CorrSteerError("A difference is not a finite number; score every sample before comparing.")
    sizes = np.abs(moved)
    tie = _TIE * float(sizes.sum())
    if not len(moved) or np.ptp(sizes) <= tie:
        return SignFlip(mcnemar_p(int(np.sum(moved > 0)), int(np.sum(moved < 0))), True)
    limit = abs(float(moved.sum())) - tie
    if len(moved) <= EXACT_UP_TO:
        return SignFlip(float(np.mean(np.abs(_all_sums(sizes)) >= limit)), True)
    reached = sum(int(np.sum(np.abs(sums) >= limit)) for sums in _drawn_sums(sizes, DRAWS, seed))
    return SignFlip((1 + reached) / (1 + DRAWS), False)


def _all_sums(sizes: FloatArray) -> FloatArray:
    """The sum under each of the 2^k sign patterns, up to a sign of the whole: 2^(k - 1) numbers."""
    sums = sizes[:1]
    for size in sizes[1:]:
        sums = np.concatenate([sums + size, sums - size])
    return sums


def _drawn_sums(sizes: FloatArray, draws: int, seed: int) -> Iterator[FloatArray]:
    """Blocks of sums under sign patterns drawn at random, `draws` in all."""
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // len(sizes))
    for start in range(0, draws, step):
        signs = rng.integers(0, 2, size=(min(step, draws - start), len(sizes)), dtype=np.int8)
        yield (2.0 * signs - 1.0) @ sizes
