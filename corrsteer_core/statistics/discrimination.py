"""How well log-probabilities tell classes apart, whatever the threshold: AUC before and after, and its difference.

A class's score is its log-probability minus the mean of the sample's other classes: any constant added per class moves all
scores of a class alike and leaves every rank where it was. What only shifts the answers therefore leaves the AUC exactly as
it was (for K = 2 the score is the margin). A class that a sample lacks is -inf, as in `offset`; samples that differ in
which classes they have are compared only among those that have the class in question.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.offset import IntArray, checked_classes
from corrsteer_core.statistics.rates import FloatArray, Interval
from corrsteer_core.statistics.resampling import percentile_interval, weight_blocks

BoolArray = NDArray[np.bool_]

_DECIMALS = 9  # of a score in nats; float32 resolves about 6


@dataclass(frozen=True)
class AucChange:
    """AUC of the same samples before and after, and the interval of the difference (None if no resample defines it)."""

    before: float
    after: float
    interval: Interval | None
    used: int  # resamples in which both were defined

    @property
    def difference(self) -> float:
        """After minus before."""
        return self.after - self.before


def auc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """P(a positive sample scores above a negative one), ties counting half; None without both kinds.

    The Mann-Whitney statistic by midranks: (R+ - n+ (n+ + 1) / 2) / (n+ n-), Hanley & McNeil (1982), Radiology 143:29-36.
    `scores`: (n,) finite; `positive`: (n,) true or false.
    """
    values, kind = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if values.ndim != 1 or values.shape != kind.shape or not np.isfinite(values).all():
        raise CorrSteerError(f"AUC needs one finite score per sample; found shapes {values.shape} and {kind.shape}.")
    n = int(kind.sum())
    if n in (0, len(kind)):
        return None
    return float((rankdata(values)[kind].sum() - n * (n + 1) / 2) / (n * (len(kind) - n)))


def class_auc(logp: ArrayLike, y: ArrayLike) -> FloatArray:
    """AUC of each class against the rest, (K,); nan for a class that is always or never the right one."""
    logits, right = checked_classes(logp, y)
    scores = _scores(logits)
    found = np.full(logits.shape[1], np.nan)
    for k in range(logits.shape[1]):
        has = np.isfinite(scores[:, k])
        one = auc(scores[has, k], right[has] == k)
        found[k] = np.nan if one is None else one
    return found


def mean_auc(logp: ArrayLike, y: ArrayLike) -> float | None:
    """AUC for two classes; for more the mean of one-vs-rest AUCs, classes that have none left out; None if all are.

    The mean is over classes, not samples (Provost & Domingos 2000 weight by frequency; here each class counts the same,
    so that a model which gives up on a rare class does not pass). `logp`: (n, K); `y`: (n,).
    """
    found = class_auc(logp, y)
    return None if np.isnan(found).all() else float(np.nanmean(found))


def auc_change(
    before: ArrayLike, after: ArrayLike, y: ArrayLike, *, resamples: int = 2000, seed: int, level: float = 0.95
) -> AucChange | None:
    """`mean_auc` before and after of the same samples, with a percentile interval of the difference.

    Samples are drawn with replacement, before and after together, so that what they share cancels. `before`, `after`:
    log-probabilities (n, K) with the same classes missing. None where an AUC is undefined.
    """
    first, right = checked_classes(before, y)
    second, _ = checked_classes(after, y)
    if first.shape != second.shape or not np.array_equal(np.isneginf(first), np.isneginf(second)):
        raise CorrSteerError(
            "Before and after must be of the same samples and classes; the classes that are -inf differ."
        )
    was, now = mean_auc(first, right), mean_auc(second, right)
    if was is None or now is None:
        return None
    resampled = [
        _resampled(second, right, weights) - _resampled(first, right, weights)
        for weights in weight_blocks(resamples, len(right), seed)
    ]
    differences = np.concatenate(resampled)
    return AucChange(was, now, percentile_interval(differences, level), int(np.sum(~np.isnan(differences))))


def _scores(logits: FloatArray) -> FloatArray:
    """Log-probability minus the mean of the sample's other classes, (n, K); -inf where it has no such class, or no other.

    Rounded far below what any dtype resolves, so that scores which tie, as bfloat16's do, still tie after a subtraction.
    """
    present = ~np.isneginf(logits)
    others = present.sum(axis=1, keepdims=True) - present
    filled = np.where(present, logits, 0.0)
    mean = (filled.sum(axis=1, keepdims=True) - filled) / np.maximum(others, 1)
    return np.where(present & (others > 0), np.round(filled - mean, _DECIMALS), -np.inf)


def _resampled(logits: FloatArray, right: IntArray, weights: FloatArray) -> FloatArray:
    """Mean AUC over classes in each resample of `weights` (resamples, n); nan where no class has one."""
    scores, by_sample = _scores(logits), np.ascontiguousarray(weights.T)
    classes = [1] if logits.shape[1] == 2 else range(logits.shape[1])  # of two classes, both have the same AUC
    each = []
    for k in classes:
        has = np.flatnonzero(np.isfinite(scores[:, k]))
        each.append(_weighted_auc(scores[has, k], right[has] == k, by_sample[has]))
    found = np.stack(each)  # (classes, resamples)
    defined = np.sum(~np.isnan(found), axis=0)
    return np.where(defined > 0, np.nansum(found, axis=0) / np.maximum(defined, 1), np.nan)


def _weighted_auc(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> FloatArray:
    """AUC with sample i counted weights[i, b] times, for every column b: (resamples,); nan without both kinds.

    A positive sample wins against the negatives of lower score and half of those of its own.
    """
    negative = np.flatnonzero(~positive)
    negative = negative[np.argsort(scores[negative])]
    below = np.zeros((len(negative) + 1, weights.shape[1]))  # (number of lowest negatives, resamples)
    np.cumsum(weights[negative], axis=0, out=below[1:])
    counted = weights[positive]
    lower = below[np.searchsorted(scores[negative], scores[positive], side="left")]
    lower += below[np.searchsorted(scores[negative], scores[positive], side="right")]
    pairs = counted.sum(axis=0) * below[-1]
    return np.where(pairs > 0, np.einsum("ib,ib->b", counted, lower) / 2 / np.maximum(pairs, 1), np.nan)
