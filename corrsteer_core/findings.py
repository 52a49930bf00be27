"""What a ranking and the effects behind it say, in sentences; a ranking that is noise is called so.

Takes what the reader returns; loads no model. What an evaluation says is in `verdict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

NOISE = 0.05
"""A p-value that is not below this is within noise."""
CHANCE = 0.01
"""A ranking is beyond chance when fewer shuffles of the outcomes than this reach its highest r."""


@dataclass(frozen=True)
class Finding:
    """A sentence or two, and whether there is more in the numbers than noise."""

    beyond_noise: bool
    sentence: str


def of_ranking(fit: Mapping[str, Any], overall: Mapping[str, Any] | None) -> Finding:
    """Whether the highest r says anything: `fit` is the row of `fits`, `overall` that of `chance` over all layers."""
    if fit["constant"]:
        return Finding(
            False,
            f"There is no ranking: the outcome never changes (the success rate on the training samples is "
            f"{fit['success_rate']:.0%}), so nothing can go with it. Choose a task that the model sometimes "
            f"fails and sometimes "
            f"solves.",
        )
    if overall is None:
        return Finding(False, f"There is no ranking: no feature fired in {fit['floor']:,} or more training samples.")
    best, level = overall["best"], overall["level"]
    if 1 / (1 + fit["permutations"]) >= CHANCE:
        return Finding(
            False,
            f"Whether the highest r, {best:.2f}, is beyond chance was not tested: {fit['permutations']} shuffles of the "
            f"outcomes are too few to tell; fit again with 200.",
        )
    if best <= level or overall["p"] >= CHANCE:
        return Finding(
            False,
            f"This ranking is no better than chance: the highest r is {best:.2f}, and when the outcomes are shuffled "
            f"the best of all features reaches that in {overall['p']:.0%} of shuffles, and {level:.2f} in one of twenty.",
        )
    return Finding(
        True,
        f"The highest r, {best:.2f}, is beyond chance: when the outcomes are shuffled, the best of all features "
        f"stays below {level:.2f} in 95% of shuffles, and reaches {best:.2f} in fewer than 1%. That makes features "
        f"candidates; what they do is another question.",
    )


def of_effects(best: pd.DataFrame) -> Finding | None:
    """What steering showed about r. `best` is the reader's `best_effects`; None if none was tried."""
    if best.empty:
        return None
    top, winner = best.loc[best["r"].idxmax()], best.loc[best["effect"].idxmax()]
    highest = f"The feature of highest r ({top['r']:.2f}, {_name(top)}) {_does(top)}"
    if not _raises(winner):
        return Finding(False, f"{highest}. Of {len(best)} features tried, none raises it by more than noise.")
    if (winner["layer"], winner["feature"]) == (top["layer"], top["feature"]):
        return Finding(True, f"{highest}, the best effect of {len(best)} features tried.")
    return Finding(
        True,
        f"{highest}. The best effect is another's: {_name(winner)}, whose r is only {winner['r']:.2f}, "
        f"{_does(winner)}. "
        f"A high r often marks what follows from success, not what brings it about.",
    )


def _raises(row: pd.Series) -> bool:
    """Whether the best scale raises the rate by more than noise; the flips, which p is of, must point the same way."""
    return row["effect"] > 0 and row["p"] < NOISE and row["positive_flips"] > row["negative_flips"]


def _name(row: pd.Series) -> str:
    return f"layer {int(row['layer'])} feature {int(row['feature'])}"


def _does(row: pd.Series) -> str:
    """What steering with one feature did, as a verb phrase: its gain at its best scale, else its harm at its worst."""
    if _raises(row):
        return f"raises the success rate by {_size(row['effect'])} when steered (at scale {row['scale']:g})"
    if row["worst_effect"] < 0 and row["worst_p"] < NOISE and row["worst_flips"] < 0:
        best = (
            f"; the best scale, {row['scale']:g}, brings {_points(row['effect'])}"
            if row["effect"] != row["worst_effect"]
            else ""
        )
        return f"lowers the success rate by {_size(row['worst_effect'])} when steered (at scale {row['worst_scale']:g}{best})"
    return f"changes the success rate by no more than noise when steered ({_points(row['effect'])} at its best scale)"


def _size(share: float) -> str:
    return f"{100 * abs(share):.1f} points"


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points".replace("-", "\u2212")
