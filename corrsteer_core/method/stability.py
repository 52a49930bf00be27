"""How surely the best candidate is the best: the choice repeated on resamples of the validation split, without the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from corrsteer_core.runs.strategies import outcome_matrix
from corrsteer_core.statistics.best_of_many import best_of_many, statistics_of
from corrsteer_core.statistics.selection_stability import Choose, selection_stability

RESAMPLES = 500
NAMED = 5
"""Candidates that are named, those chosen most often."""


def stability(effects: pd.DataFrame) -> dict[str, Any] | None:
    """How often each candidate is the best beyond the luck of many tries, and the winner's effect corrected for being chosen.

    `effects` as V saw them, judged by its objective. None where outcomes are graded or nothing was tried. See
    `selection_stability` for the method: out-of-bag means over resamples. What luck reaches is worked out once, on all samples.
    """
    found = outcome_matrix(effects)
    if found is None:
        return None
    known = selection_stability(*found, best_above(best_of_many(*found).critical()), resamples=RESAMPLES, seed=0)
    order = np.argsort(-known.shares, kind="stable")[:NAMED]
    rows = effects.reset_index(drop=True).loc[order, ["layer", "feature", "scale", "frequency"]].to_dict("records")
    shares = [float(known.shares[place]) for place in order]
    return {
        "chosen": [{**row, "share": share} for row, share in zip(rows, shares, strict=True) if share],
        "none": known.none_share,
        "apparent_effect": known.apparent_effect,
        "corrected_effect": known.corrected_effect,
        "resamples": known.resamples,
    }


def best_above(critical: float) -> Choose:
    """A choice: the candidate of highest rate among those whose statistic is above what luck reaches, as V asks it."""

    def choose(unsteered: np.ndarray, steered: np.ndarray) -> int | None:
        rises = statistics_of(unsteered, steered) > critical
        return int(np.argmax(np.where(rises, steered.mean(axis=0), -1.0))) if rises.any() else None

    return choose
