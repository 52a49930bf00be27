"""What steering gains beyond the prior: both sides with their own offset, so that what an offset can do counts for neither.

The offset of the unsteered and that of the steered model are each fitted on the validation split and applied to the test
split; what is left of the difference of their rates cannot be had by adding a constant per class.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from corrsteer_core.statistics.clusters import paired_test
from corrsteer_core.statistics.offset import Offset, checked_classes, fitted
from corrsteer_core.statistics.rates import Flips, Interval, flips


@dataclass(frozen=True)
class PairedRates:
    """Two rates over the same test samples, their flips from failure to success and back, interval and p (see `paired_test`)."""

    before: float
    after: float
    flips: Flips
    interval: Interval | None
    p: float

    @property
    def effect(self) -> float:
        """After minus before."""
        return self.after - self.before


@dataclass(frozen=True)
class BeyondPrior:
    """The offsets of both models and three comparisons on the test split, each of rates of predicted right classes."""

    unsteered_offset: Offset
    steered_offset: Offset
    raw: PairedRates  # unsteered -> steered, no offsets
    offset_alone: PairedRates  # unsteered -> unsteered with its offset
    beyond: PairedRates  # unsteered with its offset -> steered with its own: the gain beyond the prior


def beyond_prior(
    names: Sequence[str],
    validation: tuple[ArrayLike, ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike, ArrayLike],
    *,
    ridge: float = 1e-3,
    level: float = 0.95,
) -> BeyondPrior:
    """Fit both offsets on `validation`, compare on `test`; each is (unsteered, steered, y).

    Log-probabilities (n, K) as in `offset`, y the right classes (n,). Predictions are the likeliest class, of several the
    first. Raises CorrSteerError for what `offset.fit_offset` refuses.
    """
    unsteered, steered, y = validation
    offsets = fitted(names, unsteered, y, ridge), fitted(names, steered, y, ridge)
    before, right = checked_classes(test[0], test[2])
    after, _ = checked_classes(test[1], test[2])
    plain = before.argmax(axis=1) == right, after.argmax(axis=1) == right
    moved = offsets[0].predict(before) == right, offsets[1].predict(after) == right
    return BeyondPrior(
        *offsets,
        raw=paired_rates(*plain, level),
        offset_alone=paired_rates(plain[0], moved[0], level),
        beyond=paired_rates(*moved, level),
    )


def paired_rates(
    before: np.ndarray, after: np.ndarray, level: float = 0.95, clusters: Sequence[Hashable] = ()
) -> PairedRates:
    """Two yes-or-no outcomes of the same samples, each (n,), compared pair by pair, by cluster where those are named."""
    found = paired_test(before, after, clusters, level=level)
    return PairedRates(float(before.mean()), float(after.mean()), flips(before, after), found.interval, found.p)
