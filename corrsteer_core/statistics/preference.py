"""Which of two texts people prefer who do not know where each comes from: a share, its interval, and its p."""

from __future__ import annotations

from typing import NamedTuple

from corrsteer_core.statistics.rates import Interval, mcnemar_p, wilson


class Preference(NamedTuple):
    """Of the votes with a preference, those for the steered text."""

    steered: int
    unsteered: int
    neither: int
    """Votes that saw no difference; they are told, and count on no side."""
    share: float | None
    """steered / (steered + unsteered); None where nobody has preferred either."""
    interval: Interval
    """95%, Wilson; (0, 1), which says nothing, without a preference."""
    p: float
    """Exact, two-sided: how often votes part this unevenly if both are preferred equally often."""


def preference(steered: int, unsteered: int, neither: int = 0) -> Preference:
    """What votes amount to. Raises CorrSteerError for counts below 0.

    Each vote must be of another pair of texts. The p is the sign test's: of the n votes with a preference, those for
    the steered text are Binomial(n, 1/2); as McNemar's, whose flips it counts in the same way.
    """
    p = mcnemar_p(steered, unsteered)
    mcnemar_p(neither, 0)  # checks the count
    n = steered + unsteered
    return Preference(steered, unsteered, neither, steered / n if n else None, wilson(steered, n), p)
