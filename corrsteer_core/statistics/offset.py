"""One constant per class, added to what a model says of every sample alike: the cheapest thing that steering can do.

Log-probabilities of classes come as (samples, classes); a class that a sample does not have is -inf there (a question with
three answers beside ones with four). The offset is fitted on one split and applied to another: it knows nothing of the
samples, only that one class is said too often. A steering set that does not beat it has found nothing about the task.
Contextual calibration: Zhao et al. 2021, arXiv 2102.09690. As bias-only vector scaling: Guo et al. 2017, arXiv 1706.04599,
section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.rates import FloatArray

IntArray = NDArray[np.int64]

_STEPS = 200  # Newton needs about 6, and about 15 where a class never is the right one
_SMALL_DECREMENT = 1e-20  # per sample; the error of the objective, which is flat there


@dataclass(frozen=True)
class Offset:
    """A fitted offset: one number per class, in nats; their sum is 0."""

    names: tuple[str, ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.bias) or len(set(self.names)) != len(self.names):
            raise CorrSteerError(f"An offset needs one number per class; found {self.names} and {self.bias}.")
        if not np.isfinite(self.bias).all() or abs(sum(self.bias)) > 1e-6 * max(1.0, *map(abs, self.bias)):
            raise CorrSteerError(f"An offset's numbers must be finite and sum to 0; found {self.bias}.")

    def predict(self, logp: ArrayLike) -> IntArray:
        """The class of each sample with the offset added, (n,); see `apply_offset`."""
        return apply_offset(logp, self.bias)


def fitted(names: Sequence[str], logp: ArrayLike, y: ArrayLike, ridge: float = 1e-3) -> Offset:
    """`fit_offset` as a value with the names of the classes."""
    return Offset(tuple(names), tuple(fit_offset(logp, y, ridge).tolist()))


def fit_offset(logp: ArrayLike, y: ArrayLike, ridge: float = 1e-3) -> FloatArray:
    """b (K,), sum 0, that maximises sum_i log softmax(l_i + b)[y_i] - ridge / 2 * sum_k b_k^2.

    `logp`: l, (n, K), -inf where a sample lacks a class; each row needs to be known only up to a constant. `y`: the right
    class of each sample, (n,), integers. A strictly concave objective: Newton's method with steps halved until the
    objective rises (Boyd & Vandenberghe 2004, section 9.5) finds its only maximum. Its gradient is
    sum_i (onehot(y_i) - p_i) - ridge b, whose first part sums to 0 over classes, so b does too. A class that never is
    right gets a finite, very low number, thanks to the ridge. Raises CorrSteerError for no samples, a right class that the
    sample lacks, values that are not log-probabilities, or a ridge that is not positive.
    """
    logits, right = checked_classes(logp, y)
    if not ridge > 0:
        raise CorrSteerError(f"The ridge must be positive, as in 0.001; found {ridge}.")
    bias = np.zeros(logits.shape[1])
    wanted = np.bincount(right, minlength=len(bias)).astype(np.float64)
    value = _objective(logits, right, bias, ridge)
    for _ in range(_STEPS):
        p = np.exp(_log_softmax(logits + bias))
        gradient = wanted - p.sum(axis=0) - ridge * bias
        curvature = np.diag(p.sum(axis=0)) - p.T @ p + ridge * np.eye(len(bias))
        step = np.linalg.solve(curvature, gradient)
        if gradient @ step <= _SMALL_DECREMENT * len(right):
            break
        bias, value = _climb(logits, right, bias, step, ridge, value)
    return bias - bias.mean()  # the mean is rounding


def apply_offset(logp: ArrayLike, b: ArrayLike) -> IntArray:
    """argmax_k l_ik + b_k of each sample, (n,); of classes that tie exactly the first one.

    Raises CorrSteerError for shapes that differ or a sample without classes.
    """
    logits = _checked_logits(logp)
    return np.argmax(logits + _checked_bias(b, logits.shape[1]), axis=1)


def margins(logp: ArrayLike, b: ArrayLike | None = None) -> FloatArray:
    """How far the best class is ahead of the second, (n,), in nats: 0 for an exact tie, inf where there is no second.

    Near-ties are the samples whose margin is below what the number format resolves: another dtype may turn them.
    """
    logits = _checked_logits(logp)
    moved = logits if b is None else logits + _checked_bias(b, logits.shape[1])
    if moved.shape[1] == 1:
        return np.full(len(moved), np.inf)
    second, best = np.partition(moved, -2, axis=1)[:, -2:].T
    return best - second


# --- Newton's method ---------------------------------------------------------------------------


def _climb(
    logits: FloatArray, right: IntArray, bias: FloatArray, step: FloatArray, ridge: float, value: float
) -> tuple[FloatArray, float]:
    """Go along `step`, halved until the objective does not fall; stay where even the smallest step is lost in rounding."""
    for halvings in range(60):
        tried = bias + step / 2**halvings
        reached = _objective(logits, right, tried, ridge)
        if reached >= value:
            return tried, reached
    return bias, value


def _objective(logits: FloatArray, right: IntArray, bias: FloatArray, ridge: float) -> float:
    logp = _log_softmax(logits + bias)
    return float(logp[np.arange(len(right)), right].sum() - ridge / 2 * (bias @ bias))


def _log_softmax(logits: FloatArray) -> FloatArray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


# --- checks ------------------------------------------------------------------------------------


def checked_classes(logp: ArrayLike, y: ArrayLike) -> tuple[FloatArray, IntArray]:
    """Log-probabilities (n, K) as float64 and right classes (n,) as integers, or CorrSteerError: see `fit_offset`."""
    logits, right = _checked_logits(logp), np.asarray(y)
    if right.ndim != 1 or len(right) != len(logits):
        raise CorrSteerError(
            f"Log-probabilities and right classes must be of the same samples; found {logits.shape} and {right.shape}."
        )
    if not len(right):
        raise CorrSteerError("Classes need samples; found none.")
    if not np.issubdtype(right.dtype, np.integer) or right.min() < 0 or right.max() >= logits.shape[1]:
        raise CorrSteerError(f"Right classes must be whole numbers from 0 to {logits.shape[1] - 1}.")
    right = right.astype(np.int64)
    lacking = np.flatnonzero(np.isneginf(logits[np.arange(len(right)), right]))
    if len(lacking):
        raise CorrSteerError(f"Sample {lacking[0]} lacks its own right class: its log-probability is -inf.")
    return logits, right


def _checked_logits(logp: ArrayLike) -> FloatArray:
    logits = np.asarray(logp, dtype=np.float64)
    if logits.ndim != 2 or logits.shape[1] < 1:
        raise CorrSteerError(f"Log-probabilities must be of shape (samples, classes); found {logits.shape}.")
    if np.isnan(logits).any() or np.isposinf(logits).any():
        raise CorrSteerError("A log-probability is not a number: the model overflowed; try float32.")
    empty = np.flatnonzero(np.isneginf(logits).all(axis=1))
    if len(empty):
        raise CorrSteerError(f"Sample {empty[0]} has no class that is possible: all its log-probabilities are -inf.")
    return logits


def _checked_bias(b: ArrayLike, classes: int) -> FloatArray:
    bias = np.asarray(b, dtype=np.float64)
    if bias.shape != (classes,) or not np.isfinite(bias).all():
        raise CorrSteerError(f"An offset needs one finite number for each of {classes} classes; found {bias}.")
    return bias
