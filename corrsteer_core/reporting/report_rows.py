"""Rows of the report's tables, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from corrsteer_core.base.formatting import p_value, percent, points, signed
from corrsteer_core.correlation.feature_columns import Column, shown_columns


def rate_rows(rates: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Success rates: label, rate, interval, against unsteered."""
    for row in rates.itertuples():
        yield row.label, percent(row.rate), f"{percent(row.low)} to {percent(row.high)}", points(row.effect)


def effect_rows(effects: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Features steered alone: name, r, scale, effect, flips, p."""
    for row in effects:
        name, flips = f"layer {row['layer']} · {row['feature']}", f"+{row['positive_flips']} / −{row['negative_flips']}"
        yield name, signed(row["r"]), f"{row['scale']:g}", points(row["effect"]), flips, p_value(row["p"])


def columns_of(best: pd.DataFrame) -> list[Column]:
    """Those that have a value for any of some features; r always."""
    return [one for one in shown_columns() if one.name == "r" or best[one.name].notna().any()]


def layer_rows(best: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """The best feature of each layer: layer, number, r, what chance reaches there, the other columns."""
    for row in best.itertuples():
        r, *others = [column.text(getattr(row, column.name)) for column in columns_of(best)]
        yield str(row.layer), str(row.feature), r, signed(row.level, 3), *others
