"""A set beside its rivals on the same samples, and beside random controls.

Rivals (a better prompt, a constant offset, a difference of activations) are each a measurement of its own and are compared
sample by sample. Controls are draws from one population (random features) and are ranked.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.clusters import paired_test
from corrsteer_core.statistics.rates import Flips, FloatArray, Interval, flips

# Effects of n samples are multiples of 1 / n: those this close are equal.
_TIE = 1e-12


@dataclass(frozen=True)
class RivalComparison:
    """The set against one rival: flips are from failure under the rival to success under the set, and back.

    `difference` is the set's rate minus the rival's, `corrected_p` Holm's over all rivals it was compared with.
    """

    rival: str
    set_rate: float
    rival_rate: float
    flips: Flips
    interval: Interval | None
    p: float
    corrected_p: float

    @property
    def difference(self) -> float:
        """In the outcome's units."""
        return self.set_rate - self.rival_rate


def compare_with_rivals(
    outcomes: ArrayLike,
    rivals: Mapping[str, ArrayLike],
    *,
    clusters: Sequence[Hashable] = (),
    seed: int = 0,
    level: float = 0.95,
) -> list[RivalComparison]:
    """The set's `outcomes`, (n,) in [0, 1], against each rival's on the same samples, in the order of `rivals`.

    p and its uncorrected interval are those of `paired_test`: McNemar's exact one for outcomes of 0 and 1, the sign-flip
    test for graded ones, and by cluster where `clusters` names them. Raises CorrSteerError for outcomes that are not of the same samples.
    """
    mine = np.asarray(outcomes, dtype=np.float64)
    compared = [
        _compare(mine, name, np.asarray(theirs, dtype=np.float64), clusters, seed, level)
        for name, theirs in rivals.items()
    ]
    corrected = holm([each.p for each in compared])
    return [_with_correction(each, float(p)) for each, p in zip(compared, corrected, strict=True)]


def _compare(
    mine: FloatArray, name: str, theirs: FloatArray, clusters: Sequence[Hashable], seed: int, level: float
) -> RivalComparison:
    counted = flips(theirs, mine)
    found = paired_test(theirs, mine, clusters, seed=seed, level=level)
    return RivalComparison(name, float(mine.mean()), float(theirs.mean()), counted, found.interval, found.p, found.p)


def _with_correction(one: RivalComparison, p: float) -> RivalComparison:
    return RivalComparison(one.rival, one.set_rate, one.rival_rate, one.flips, one.interval, one.p, p)


def holm(p: ArrayLike) -> FloatArray:
    """p-values corrected for their number: rejecting those below alpha errs at all with probability alpha at most.

    Holm (1979), Scand. J. Stat. 6:65-70: max over j <= i of (m - j + 1) p_(j), at most 1. nan stays nan and does not count
    in m. Any shape; all values form one family. Raises CorrSteerError for p outside [0, 1].
    """
    values = np.asarray(p, dtype=np.float64)
    tested = values[~np.isnan(values)]
    if np.any((tested < 0) | (tested > 1)):
        raise CorrSteerError("p-values must lie within [0, 1].")
    order = np.argsort(tested, kind="stable")
    scaled = tested[order] * np.arange(len(tested), 0, -1)
    adjusted = np.empty_like(tested)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    corrected = np.full_like(values, np.nan)
    corrected[~np.isnan(values)] = adjusted
    return corrected


def control_p(effect: float, control_effects: ArrayLike) -> float:
    """(1 + number of controls whose effect reaches `effect`) / (1 + number of controls); 1 without controls.

    One-sided p that the set is one more draw of the controls' kind: Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol.
    9:39. Below 0.05 only with 20 controls or more; 19 reach it. Raises CorrSteerError for an effect that is not a number.
    """
    controls = np.asarray(control_effects, dtype=np.float64).ravel()
    if not (np.isfinite(effect) and np.isfinite(controls).all()):
        raise CorrSteerError("An effect is not a finite number; measure the set and every control before ranking them.")
    return float((1 + np.sum(controls >= effect - _TIE)) / (1 + len(controls)))
