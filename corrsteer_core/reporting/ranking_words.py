"""What a ranking and the effects behind it say, in sentences; a ranking that is noise is called so.

Takes what `runs.run_facts` and `runs.feature_lists` return; loads no model. What an evaluation says is in `verdict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from corrsteer_core.base.formatting import number, points
from corrsteer_core.statistics.rates import NOISE

CHANCE = 0.01
"""A ranking is beyond chance when fewer shuffles of the outcomes than this reach its highest r."""
FEW = 10
"""With fewer right (or wrong) training samples, p and q, which take r as normal, are much too small, and bootstrap
intervals, which draw the same few again and again, too narrow."""


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
            f"Whether the highest r, {number(best)}, is beyond chance was not tested: {fit['permutations']} shuffles of the "
            f"outcomes are too few to tell; fit again with 200.",
        )
    if best <= level or overall["p"] >= CHANCE:
        near = best > level and overall["p"] < NOISE
        rest = "; fewer than 1% are asked for here." if near else f", and {number(level)} in one of twenty."
        return Finding(
            False,
            f"This ranking {'may be' if near else 'is'} no better than chance: the highest r is {number(best)}, and when the "
            f"outcomes are shuffled the best of all features reaches that in {overall['p']:.0%} of shuffles{rest}{_few(fit)}",
        )
    return Finding(
        True,
        f"The highest r, {number(best)}, is beyond chance: when the outcomes are shuffled, the best of all features "
        f"stays below {number(level)} in 95% of shuffles, and reaches {number(best)} in fewer than 1%. That makes features "
        f"candidates; what they do is another question.{_within(overall)}{_few(fit)}",
    )


def _within(overall: Mapping[str, Any]) -> str:
    """What is left of the highest r where only samples of one right answer are compared; empty without classes."""
    best, level, p = (overall.get(f"within_{name}") for name in ("best", "level", "p"))
    if best is None or level is None or p is None or pd.isna(best):
        return ""
    beyond = p < CHANCE and best > level
    verdict = "beyond chance too" if beyond else "no better than chance"
    return (
        f" Within the class of the right answer, where a lean towards one answer counts for nothing, the highest r is "
        f"{number(best)}, {verdict} (in 95% of shuffles the best stays below {number(level)})."
    )


def _few(fit: Mapping[str, Any]) -> str:
    """What to make of p and q where one of the two outcomes is rare; the shuffles hold all the same."""
    right = round(fit["success_rate"] * fit["samples"])
    rarer, word = min((right, "right"), (fit["samples"] - right, "wrong"))
    if rarer >= FEW:
        return ""
    verb = "is" if rarer == 1 else "are"
    return (
        f" Only {rarer} of the {fit['samples']:,} training samples {verb} {word}: with so few, do not believe single "
        f"values of p and q, nor intervals of r."
    )


def of_effects(best: pd.DataFrame) -> Finding | None:
    """What steering showed about r. `best` is `feature_lists.best_effects`; None if none was tried."""
    if best.empty:
        return None
    top = best.loc[best["r"].idxmax()]
    highest = f"Of {len(best):,} features tried, the one of highest r ({number(top['r'])}, {_name(top)}) {_does(top)}"
    raising = best[best.apply(_raises, axis=1)]
    if raising.empty:
        return Finding(False, f"{highest}. None raises it by more than noise at its best scale.")
    winner = raising.loc[raising["effect"].idxmax()]
    luck = _luck(float(winner["p"]) / 2, int(best["tries"].sum()))
    if (winner["layer"], winner["feature"]) == (top["layer"], top["feature"]):
        return Finding(True, f"{highest}, the best effect of all. {luck}")
    return Finding(
        True,
        f"{highest}. The best effect is another's: {_name(winner)}, whose r is only {number(winner['r'])}, "
        f"{_does(winner)}. A high r often marks what follows from success, not what brings it about. {luck}",
    )


def _luck(p: float, tries: int) -> str:
    """What being the best of many tries takes away from an effect: p is its own, one-sided."""
    if p * tries < NOISE:  # Bonferroni
        return f"It is more than noise even for the best of {tries:,} tries."
    return f"The best of {tries:,} tries looks better than it is; what it is worth, the unseen test samples say."


def _raises(row: pd.Series) -> bool:
    """Whether the best scale raises the rate by more than noise, as V asks it."""
    return bool(row["effect"] > 0 and row["p"] / 2 < NOISE)


def _name(row: pd.Series) -> str:
    return f"layer {int(row['layer'])} feature {int(row['feature'])}"


def _does(row: pd.Series) -> str:
    """What steering with one feature did, as a verb phrase: its gain at its best scale, else its harm at its worst."""
    if _raises(row):
        return f"raises the success rate by {_size(row['effect'])} when steered (at scale {row['scale']:g})"
    if row["worst_effect"] < 0 and row["worst_p"] < NOISE:
        best = (
            f"; the best scale, {row['scale']:g}, brings {points(row['effect'])}"
            if row["effect"] != row["worst_effect"]
            else ""
        )
        return f"lowers the success rate by {_size(row['worst_effect'])} when steered (at scale {row['worst_scale']:g}{best})"
    return f"changes the success rate by no more than noise when steered ({points(row['effect'])} at its best scale)"


def _size(share: float) -> str:
    return f"{100 * abs(share):.1f} points"


def of_repeats(config: Mapping[str, Any]) -> list[str]:
    """What of the prompts is there more than once, from a run's configuration; none where nothing is, or nobody looked."""
    copies, contradictions, near = (config.get(name) or 0 for name in ("copies", "contradictions", "near_copies"))
    found = []
    if copies:
        found.append(f"{_counted(copies, 'row was', 'rows were')} left out: the prompt was there already.")
    if contradictions:
        found.append(
            f"{_counted(contradictions, 'prompt was', 'prompts were')} there with several targets; the first one holds, "
            f"whatever is answered."
        )
    if near:
        found.append(
            f"{_counted(near, 'test sample nearly repeats', 'test samples nearly repeat')} one that features are ranked or "
            f"chosen on (nine in ten of their words): what holds there may not hold elsewhere."
        )
    return found


def _counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
