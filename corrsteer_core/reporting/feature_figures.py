"""Pictures of one feature, or of features in two runs, as Plotly figures, for the app and for notebooks; see `figures`."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from corrsteer_core.base.formatting import p_value, signed
from corrsteer_core.reporting.figure_layout import laid_out
from corrsteer_core.reporting.palette import CORRECT, INCORRECT, QUIET, STEERED, UNSTEERED

LEAST_RANGE = 0.2
"""Of an axis of success rates: 20 points."""


def effects_by_scale(effects: pd.DataFrame) -> go.Figure:
    """One feature's success rate at each scale tried, from 0 (unsteered) on, against the rate of the same samples.

    `effects` needs the 95% interval of steered_rate in `low` and `high`, and that of unsteered_rate in `unsteered_low`
    and `unsteered_high`.
    """
    rows = effects.sort_values("scale")
    none = rows.head(1).assign(
        scale=0.0,
        steered_rate=rows["unsteered_rate"],
        positive_flips=0,
        negative_flips=0,
        p=1.0,
        low=rows["unsteered_low"],
        high=rows["unsteered_high"],
    )
    rows = pd.concat([none, rows], ignore_index=True)
    figure = go.Figure(
        go.Scatter(
            x=rows["scale"],
            y=rows["steered_rate"],
            name="steered, 95% interval",
            mode="lines+markers",
            line={"color": STEERED, "width": 2.5},
            marker={"size": 9},
            error_y=_interval(rows),
            customdata=rows[["positive_flips", "negative_flips", "p", "low", "high"]].assign(p=rows["p"].map(p_value)),
            hovertemplate="scale %{x:g}: %{y:.1%} (95% interval %{customdata[3]:.1%} to %{customdata[4]:.1%})<br>"
            "%{customdata[0]} put right, %{customdata[1]} put wrong<br>"
            "%{customdata[2]}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=rows["scale"],
            y=rows["unsteered_rate"],
            name="unsteered",
            mode="lines",
            line={"color": UNSTEERED, "width": 2, "dash": "dash"},
            hovertemplate="unsteered: %{y:.1%}<extra></extra>",
        )
    )
    figure.update_xaxes(title="Scale (times the coefficient)", tickvals=rows["scale"], ticksuffix="×", tickformat="~g")
    low, high = _at_least_wide(float(rows["low"].min()), float(rows["high"].max()))
    figure.update_yaxes(title="Success rate", tickformat=".0%", range=[low, high], nticks=6)
    return laid_out(figure, height=300, legend=True)


def _interval(rows: pd.DataFrame) -> dict[str, Any]:
    """Plotly's error bars from `low` to `high` around steered_rate."""
    above, below = rows["high"] - rows["steered_rate"], rows["steered_rate"] - rows["low"]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 4}


def _at_least_wide(low: float, high: float) -> tuple[float, float]:
    """A range of rates with room around it, wide enough that a difference of a point does not fill the picture."""
    more = max(0.0, LEAST_RANGE - (high - low)) / 2 + 0.02
    return max(-0.01, low - more), min(1.01, high + more)


def activation_histogram(bins: pd.DataFrame) -> go.Figure:
    """How strongly a feature was active among correct and among incorrect answers, each as a share of its group."""
    figure = go.Figure()
    for column, colour in (("correct", CORRECT), ("incorrect", INCORRECT)):
        figure.add_trace(
            go.Bar(
                x=bins["start"] + bins["width"] / 2,
                y=bins[column],
                width=bins["width"] * 0.45,
                offsetgroup=column,
                name=f"{column} answers",
                marker={"color": colour},
                hovertemplate=f"%{{y:.1%}} of {column} answers around %{{x:.2f}}<extra></extra>",
            )
        )
    figure.update_layout(barmode="group")
    figure.update_xaxes(title="Activation, where it fired", rangemode="tozero")
    figure.update_yaxes(title="Share of the group", tickformat=".0%")
    return laid_out(figure, height=300, legend=True)


def r_against_r(pairs: pd.DataFrame, leading: pd.DataFrame, names: tuple[str, str]) -> go.Figure:
    """Each feature that two runs rank: r in the first to the right, r in the second up; equal on the dashed line.

    `pairs` and `leading` (the features that lead both, drawn larger) have layer, feature, r and other_r.
    """
    figure = go.Figure()
    rest = pairs[~pairs.index.isin(leading.index)]
    one, other = (html.escape(name, quote=False) for name in names)
    for part, name, size, colour in (
        (rest, "ranked in both runs", 6, QUIET),
        (leading, "among the first of both", 11, STEERED),
    ):
        figure.add_trace(
            go.Scatter(
                x=part["r"],
                y=part["other_r"],
                name=name,
                mode="markers",
                marker={"size": size, "color": colour, "opacity": 0.55 if part is rest else 0.95},
                customdata=part[["layer", "feature"]].assign(
                    r=[signed(r, 3) for r in part["r"]], other=[signed(r, 3) for r in part["other_r"]]
                ),
                hovertemplate="layer %{customdata[0]} · feature %{customdata[1]}<br>"
                f"r %{{customdata[2]}} in {one}<br>r %{{customdata[3]}} in {other}<extra></extra>",
            )
        )
    values = pd.concat([pairs["r"], pairs["other_r"], leading["r"], leading["other_r"]])
    ends = [float(min(values.min(), 0)), float(max(values.max(), 0))]
    line = {"color": QUIET, "width": 1.5, "dash": "dash"}
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", showlegend=False))
    figure.update_xaxes(title=f"r in {one}", tickformat=".2~f", zeroline=True)
    figure.update_yaxes(title=f"r in {other}", tickformat=".2~f", zeroline=True)
    return laid_out(figure, height=430, legend=True)
