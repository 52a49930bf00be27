"""What is kept of every feature beside layer and number: one entry of COLUMNS each.

An entry says how the column is computed, what the database, the command line, the app and the report call it, and how
they show it. A run that was fitted before an entry was added has NULL there until it is fitted again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array

from corrsteer_core.base.formatting import NOTHING, missing, number, percent, probability, signed
from corrsteer_core.correlation.per_feature import FeatureStats, correlate
from corrsteer_core.statistics import rates


@dataclass(frozen=True)
class LayerSample:
    """The training samples at one layer."""

    activations: csc_array
    """Pooled, (samples, features), silent features left out."""
    outcomes: NDArray[np.float64]
    """(samples,), in [0, 1]."""
    stats: FeatureStats
    """What `correlate` says of them."""


@dataclass(frozen=True)
class RunFeatures:
    """All features of a run, for a column that needs them together."""

    columns: pd.DataFrame
    """A row per feature: layer, feature, and the columns whose entries come before."""
    ranked: NDArray[np.bool_]
    """Those that reach the floor and have an r."""
    samples: int
    """Training samples."""


Show = Literal["correlation", "probability", "number", "count", "share"]
SHOWN: dict[Show, Callable[[float], str]] = {
    "correlation": lambda value: signed(value, 3),
    "probability": probability,
    "number": number,
    "count": lambda value: f"{value:,.0f}",
    "share": percent,
}
"""Ways to show a number."""


@dataclass(frozen=True)
class Column:
    """A statistic of a feature."""

    name: str
    """In the database and on the command line."""
    what: str
    """In docs/schema.md."""
    of_layer: Callable[[LayerSample], ArrayLike] | None = None
    """Its values for the features of one layer, (features,); nan where undefined."""
    of_run: Callable[[RunFeatures], ArrayLike] | None = None
    """Its values for all features at once, where one layer does not do."""
    kind: Literal["DOUBLE", "INTEGER"] = "DOUBLE"
    """Its type in the database."""
    title: str = ""
    """At the head of the tables in app and report; empty: they do not show it."""
    help: str = ""
    """In a sentence, for those tables."""
    show: Show = "number"
    sorted_by: str = ""
    """In the app's list of what features can be sorted by; empty: its title."""

    def __post_init__(self) -> None:
        if (self.of_layer is None) == (self.of_run is None):
            raise ValueError(f"the column {self.name} is computed by either of_layer or of_run")
        if not re.fullmatch("[a-z][a-z_0-9]*", self.name):  # it becomes part of SQL
            raise ValueError(f"{self.name!r} is no name of a column")

    def text(self, value: float | None) -> str:
        """One of its values as people read it."""
        return NOTHING if value is None or missing(value) else SHOWN[self.show](value)


COLUMNS: dict[str, Column] = {
    one.name: one
    for one in (
        Column(
            "r",
            "Pearson correlation of z and outcome over training samples; NULL if undefined",
            lambda layer: layer.stats.r,
            title="r",
            help="How closely its activation goes with success over the training samples, −1 to 1; undefined (–) where it "
            "or the outcome never changes.",
            show="correlation",
            sorted_by="r (goes with success)",
        ),
        Column(
            "coefficient",
            "mean of z over training samples with outcome > 0",
            lambda layer: layer.stats.c,
            title="Coeff.",
            help="Coefficient: its mean activation over the successful samples; steering adds this much of it, times a scale.",
            sorted_by="coefficient",
        ),
        Column(
            "support",
            "training samples in which the feature fired",
            lambda layer: layer.stats.support,
            kind="INTEGER",
            title="Support",
            help="Training samples in which it fired. Below the floor a feature is not ranked: few samples prove little.",
            show="count",
            sorted_by="support",
        ),
        Column("frequency", "support / training samples", lambda layer: layer.stats.frequency, show="share"),
        Column(
            "frequency_correct",
            "share of the training samples with outcome > 0.5 in which it fired",
            lambda layer: layer.stats.frequency_correct,
            title="Correct",
            help="Share of the correct answers in which it fired.",
            show="share",
            sorted_by="fires in correct answers",
        ),
        Column(
            "frequency_incorrect",
            "the same for the others",
            lambda layer: layer.stats.frequency_incorrect,
            title="Incorrect",
            help="Share of the incorrect answers in which it fired.",
            show="share",
            sorted_by="fires in incorrect answers",
        ),
        Column(
            "p",
            "two-sided p-value of r (t distribution); NULL if undefined or below the floor",
            of_run=lambda run: np.where(run.ranked, rates.pearson_p(run.columns["r"].to_numpy(), run.samples), np.nan),
            show="probability",
        ),
        Column(
            "q",
            "Benjamini-Hochberg over all features of the run that reach the floor",
            of_run=lambda run: rates.benjamini_hochberg(run.columns["p"].to_numpy()),
            title="q",
            help="Of the features with a q as small as this, about this share are there by chance (Benjamini-Hochberg).",
            show="probability",
        ),
    )
}


def shown_columns() -> list[Column]:
    """Those that the tables of app and report show, in the order of COLUMNS."""
    return [column for column in COLUMNS.values() if column.title]


def rows_of_layer(layer: int, activations: csc_array, outcomes: NDArray[np.float64]) -> pd.DataFrame:
    """The features of one layer, a row each, with every column that is computed by layer.

    `activations`: sparse (samples, features); `outcomes`: (samples,).
    """
    sample = LayerSample(activations, outcomes, correlate(activations, outcomes))
    rows = {"layer": layer, "feature": np.arange(activations.shape[1])}
    return pd.DataFrame(rows | {one.name: one.of_layer(sample) for one in COLUMNS.values() if one.of_layer})


def with_columns_of_run(rows: pd.DataFrame, ranked: NDArray[np.bool_], samples: int) -> pd.DataFrame:
    """The features of all layers with the columns that need all of them."""
    for one in COLUMNS.values():
        if one.of_run:
            rows = rows.assign(**{one.name: one.of_run(RunFeatures(rows, ranked, samples))})
    return rows
