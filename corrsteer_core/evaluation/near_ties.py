"""Answers that hang by a thread: samples whose first token leads so little that other arithmetic may choose another.

The same model in another type, on another machine, or in batches of another size computes logits that differ a little. What
is decided by less than that is no finding, so it is counted, and it is worked out whether these samples alone could turn a
verdict, if all of them went against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corrsteer_core.statistics.clusters import paired_test
from corrsteer_core.statistics.rates import NOISE, FloatArray, mcnemar_p

BOUND = {"float32": 0.01, "bfloat16": 0.1}
"""Nats of lead below which a first token is nearly tied. bfloat16 keeps 8 bits of every activation, so that logits of 20
are off by some hundredths; float32's error is far below its bound, which allows for other kernels."""
MOST_TURNED = 1000
"""More turned samples than these are not searched for."""

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class NearTies:
    """How many samples nearly tie, unsteered or steered, and what they could do to a comparison."""

    bound: float
    samples: int
    to_turn: int | None
    """Flips that would have to go otherwise for p to cross 0.05; None where outcomes are graded, samples are
    tested by cluster, or no number does."""
    could_turn: bool
    """Whether p would cross 0.05, or the effect its sign, if all near ties went the other way."""

    def summary(self) -> dict:
        """By the names that a measurement keeps them under, ready for JSON."""
        return {
            "near_ties": self.samples,
            "near_tie_bound": self.bound,
            "flips_to_turn": self.to_turn,
            "near_ties_could_turn": self.could_turn,
        }


def near_ties(
    before: FloatArray, after: FloatArray, leads: FloatArray, dtype: str, clusters: Sequence[str] = ()
) -> NearTies:
    """Of two sides of a comparison, outcomes (n,) in [0, 1] each; `leads` (n, 2) are theirs, in nats.

    `clusters` (n,) are those that the comparison is tested by, if it is.
    """
    bound = BOUND.get(dtype, BOUND["bfloat16"])
    close = leads < bound
    to_turn = None if clusters else _to_turn(before, after)
    return NearTies(bound, int(close.any(axis=1).sum()), to_turn, could_turn(before, after, close, clusters))


def could_turn(before: FloatArray, after: FloatArray, close: BoolArray, clusters: Sequence[str] = ()) -> bool:
    """Whether what the test says would change if all samples that are `close`, (n, 2), went the other way."""
    said = _said(before, after, clusters)
    worst, best = (_said(*_moved(before, after, close, up), clusters) for up in (False, True))
    return worst != said or best != said


def _moved(before: FloatArray, after: FloatArray, close: BoolArray, up: bool) -> tuple[FloatArray, FloatArray]:
    """Outcomes in which all that is close speaks for a rise (`up`), or for a fall."""
    return np.where(close[:, 0], float(not up), before), np.where(close[:, 1], float(up), after)


def _said(before: FloatArray, after: FloatArray, clusters: Sequence[str]) -> int:
    """1 for a rise beyond noise, -1 for a fall, 0 for neither."""
    if paired_test(before, after, clusters).p >= NOISE:
        return 0
    return 1 if after.mean() > before.mean() else -1


def _to_turn(before: FloatArray, after: FloatArray) -> int | None:
    if not np.isin(np.concatenate([before, after]), (0.0, 1.0)).all():
        return None
    up, down = int((after > before).sum()), int((after < before).sum())
    more, fewer, same = max(up, down), min(up, down), len(before) - up - down
    significant = mcnemar_p(more, fewer) < NOISE
    for turned in range(1, MOST_TURNED):
        # A flip that does not happen, while there is a verdict; one more of the commoner kind, while there is none.
        counts = (more - turned, fewer) if significant else (more + turned, fewer)
        if counts[0] < 0 or turned > (more if significant else same):
            return None
        if (mcnemar_p(*counts) < NOISE) != significant:
            return turned
    return None
