"""How surely the best candidate is the best: the choice repeated on resamples of the validation split, without the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from corrsteer_core.method.validation import outcome_matrix
from corrsteer_core.statistics import rates
from corrsteer_core.statistics.selection_stability import selection_stability

RESAMPLES = 500
NAMED = 5
"""Candidates that are named, those chosen most often."""


def stability(effects: pd.DataFrame) -> dict[str, Any] | None:
    """How often each candidate is the best beyond noise, and the winner's effect corrected for having been chosen.

    `effects` as V saw them, judged by its objective. None where outcomes are graded or nothing was tried. See
    `selection_stability` for the method: out-of-bag means over resamples.
    """
    found = outcome_matrix(effects)
    if found is None:
        return None
    known = selection_stability(*found, best_beyond_noise, resamples=RESAMPLES, seed=0)
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


def best_beyond_noise(unsteered: np.ndarray, steered: np.ndarray) -> int | None:
    """The candidate of highest rate among those that raise it beyond noise, as V asks it; None if there is none."""
    up = (steered > unsteered[:, None]).sum(axis=0)
    down = (steered < unsteered[:, None]).sum(axis=0)
    p = rates.mcnemar_p_of(up, down)
    rises = (up > down) & np.asarray(rates.rises(up, down, p))
    if not rises.any():
        return None
    return int(np.argmax(np.where(rises, steered.mean(axis=0), -1.0)))
