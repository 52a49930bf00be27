"""What was predicted of a run's features, and how well that goes with what was measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.storage.reading import query

PREDICTED = "predicted_effect"
"""The ranking by predicted effect: it stands in a table, where others are computed from activations."""


def predictions(run: str) -> pd.DataFrame:
    """All features with what was predicted, as in docs/schema.md; empty where nothing was, or not with today's fit."""
    if query(run, "SELECT table_name FROM duckdb_tables() WHERE table_name = 'predictions'").empty:
        return pd.DataFrame()  # a run of before there were any
    found = query(run, "SELECT * EXCLUDE run FROM predictions ORDER BY layer, feature")
    if found.empty:
        return found
    fitted = query(run, "SELECT layer, feature, coefficient AS fitted FROM features")
    both = found.merge(fitted, on=["layer", "feature"], how="outer", indicator="where")
    fitted_now = both["fitted"].fillna(0.0)
    same = np.where(both["own"].eq(True), both["coefficient"] == fitted_now, fitted_now == 0)
    return found if bool(same.all()) and not (both["where"] == "right_only").any() else found.iloc[:0]


def needed_predictions(run: str) -> pd.DataFrame:
    """As `predictions`. Raises CorrSteerError where there are none."""
    found = predictions(run)
    if found.empty:
        raise CorrSteerError(f"Nothing is predicted yet of {run} as it is fitted now; run 'predict {run}' first.")
    return found


@dataclass(frozen=True)
class Agreement:
    """Predicted effects, and r, beside what steering did on the validation split."""

    points: pd.DataFrame
    """Each tried feature at the smallest scale it was tried at: layer, feature, r, scale, predicted (change of the rate
    at that scale), shift, tilt, effect (measured)."""
    predicted: float | None
    """Spearman's rank correlation of prediction and effect; None with fewer than three features, or where one is constant."""
    r: float | None
    """The same of r and effect, over the features whose r is defined."""


def predicted_against_measured(run: str) -> Agreement:
    """How well predictions, and r, go with measured effects. Raises CorrSteerError where nothing is predicted.

    To first order an effect is proportional to coefficient x scale, so predictions are taken to those that were measured.
    """
    predicted = needed_predictions(run).rename(columns={"coefficient": "predicted_with"})
    tried = query(
        run,
        "SELECT layer, feature, r, scale, coefficient, steered_rate - unsteered_rate AS effect FROM effects "
        "QUALIFY row_number() OVER (PARTITION BY layer, feature ORDER BY scale) = 1 ORDER BY layer, feature",
    )
    both = tried.merge(predicted, on=["layer", "feature"])
    times = both["scale"] * both["coefficient"] / both["predicted_with"]
    both = both.assign(predicted=both[PREDICTED] * times, shift=both["shift"] * times, tilt=both["tilt"] * times)
    points = both[["layer", "feature", "r", "scale", "predicted", "shift", "tilt", "effect"]]
    defined = points[points["r"].notna()]
    return Agreement(
        points, _spearman(points["predicted"], points["effect"]), _spearman(defined["r"], defined["effect"])
    )


def _spearman(one: ArrayLike, other: ArrayLike) -> float | None:
    x, y = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(stats.spearmanr(x, y).statistic)
