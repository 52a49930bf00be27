"""What steering gains beyond the prior: both sides with their own offset, so that what an offset can do counts for neither.

The offset of the unsteered and that of the steered model are each fitted on the validation split and applied to the test
split; what is left of the difference of their rates cannot be had by adding a constant per class.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from corrsteer_core.statistics.clusters import paired_test
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


def paired_rates(before: np.ndarray, after: np.ndarray, clusters: Sequence[Hashable] = ()) -> PairedRates:
    """Two yes-or-no outcomes of the same samples, each (n,), compared pair by pair, by cluster where those are named."""
    found = paired_test(before, after, clusters)
    return PairedRates(float(before.mean()), float(after.mean()), flips(before, after), found.interval, found.p)
