"""Pictures of a run as Plotly figures, for the app and for notebooks: each takes a DataFrame of `runs` and computes nothing.

A page's or a notebook's own theme colours text and grid, light or dark; marks use colours that hold on both.
"""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from corrsteer_core.base.formatting import p_value, points, points_alone, signed
from corrsteer_core.reporting.figure_layout import laid_out
from corrsteer_core.reporting.palette import LABEL, QUIET, SEQUENCE, STEERED, UNSTEERED

RIVAL_COLOURS = {"unsteered": UNSTEERED, "steered": STEERED, "offset": UNSTEERED, "control": QUIET}
RIVAL_SYMBOLS = {"unsteered": "square", "steered": "circle", "offset": "diamond", "control": "circle"}


def frequency_against_r(
    features: pd.DataFrame, chance: float | None, chosen: tuple[int, int] | None = None
) -> go.Figure:
    """Bubbles: how often a feature fires against its r; bigger where its coefficient is, coloured by layer."""
    largest = max(float(features["coefficient"].abs().max() or 0), 1e-9)
    sizes = 6 + 20 * (features["coefficient"].clip(lower=0).fillna(0) / largest) ** 0.5
    figure = go.Figure(
        go.Scatter(
            x=features["frequency"],
            y=features["r"],
            mode="markers",
            marker={
                "size": sizes,
                "color": features["layer"],
                "colorscale": SEQUENCE,
                "showscale": features["layer"].nunique() > 1,
                "colorbar": {"title": "Layer", "thickness": 10, "outlinewidth": 0, "tickformat": "d"},
                "opacity": 0.8,
                "line": {"width": 0.5, "color": QUIET},
            },
            customdata=features[["layer", "feature", "coefficient", "support"]].assign(r=_of_r(features["r"])),
            hovertemplate=(
                "layer %{customdata[0]} · feature %{customdata[1]}<br>r %{customdata[4]}<br>fires in %{x:.1%} "
                "(%{customdata[3]} samples)<br>coefficient %{customdata[2]:.2f}<extra></extra>"
            ),
        )
    )
    _ring(figure, features, "frequency", "r", chosen)
    if chance is not None:
        _level(figure, chance, "chance reaches this")
        if features["r"].min() < 0:
            _level(figure, -chance, "and this downwards", below=True)
    figure.update_xaxes(title="Share of samples in which it fires", tickformat=".0%")
    figure.update_yaxes(title="r with success", tickformat=".2~f")
    return laid_out(figure)


def best_by_layer(best: pd.DataFrame) -> go.Figure:
    """The highest r of each layer as a bar, with the level that permuted outcomes reach drawn across it."""
    layers = best["layer"].astype(str)
    beyond = best["r"] > best["level"].astype(float).fillna(float("inf"))
    figure = go.Figure(
        go.Bar(
            x=layers,
            y=best["r"],
            name="highest r",
            marker={"color": [UNSTEERED if one else QUIET for one in beyond]},
            customdata=best[["layer", "feature"]].assign(r=_of_r(best["r"]), level=_of_r(best["level"])),
            hovertemplate="layer %{customdata[0]} · feature %{customdata[1]}<br>r %{customdata[2]}<br>"
            "chance reaches %{customdata[3]}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=layers,
            y=best["level"],
            name="what chance reaches (95%)",
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 32, "line": {"width": 3}, "color": STEERED},
            hovertext=_of_r(best["level"]),
            hovertemplate="chance reaches %{hovertext}<extra></extra>",
        )
    )
    figure.update_layout(bargap=0.45)
    figure.update_xaxes(title="Layer", type="category")
    figure.update_yaxes(title="Highest r in the layer", tickformat=".2~f", rangemode="tozero")
    return laid_out(figure, legend=True)


def r_by_rank(ranks: pd.DataFrame) -> go.Figure:
    """A heat map: a row a layer, in it its features from the highest r down; framed where r is beyond chance."""
    layers = sorted(ranks["layer"].unique())
    rows = {layer: place for place, layer in enumerate(layers)}
    beyond = ranks["r"] > ranks["level"].astype(float).fillna(float("inf"))
    height = max(260, min(760, 90 + 44 * len(layers)))
    cell = max(8, min(22, int(0.8 * (height - 90) / max(1, len(layers)))))
    figure = go.Figure(
        go.Scatter(
            x=ranks["rank"],
            y=ranks["layer"].map(rows),
            mode="markers",
            marker={
                "symbol": "square",
                "size": cell,
                "color": ranks["r"],
                "colorscale": SEQUENCE,
                "colorbar": {"title": "r", "thickness": 10, "outlinewidth": 0, "tickformat": "+.2f"},
                "line": {"color": STEERED, "width": [2.5 if one else 0 for one in beyond]},
            },
            customdata=ranks[["layer", "feature"]].assign(r=_of_r(ranks["r"]), level=_of_r(ranks["level"])),
            hovertemplate=(
                "layer %{customdata[0]} · feature %{customdata[1]}<br>r %{customdata[2]}, rank %{x} in its layer"
                "<br>chance reaches %{customdata[3]}<extra></extra>"
            ),
        )
    )
    figure.update_xaxes(title="Rank in the layer", showgrid=False, zeroline=False)
    figure.update_yaxes(
        title="Layer", tickvals=list(rows.values()), ticktext=[str(layer) for layer in layers],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    return laid_out(figure, height=height)


def convergence(points: pd.DataFrame) -> go.Figure:
    """With how many samples the ranking settles: the share of the final top found, and the best feature's r."""
    figure = go.Figure()
    for column, name, colour, dash in (
        ("overlap", "top features in common with all samples", UNSTEERED, "solid"),
        ("best_r", "r of the feature that ends up best", STEERED, "dash"),
    ):
        figure.add_trace(
            go.Scatter(
                x=points["size"],
                y=points[column],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2.5, "dash": dash},
                marker={"size": 8},
                hovertemplate=f"%{{x}} samples: {name} %{{y:.2f}}<extra></extra>",
            )
        )
    figure.update_xaxes(title="Training samples used", rangemode="tozero")
    figure.update_yaxes(title="Share, and r", tickformat=".1f", rangemode="tozero")
    return laid_out(figure, legend=True)


NAME = (0.16, 0.2)
"""Of the picture, what the name of a dot takes: across to either side, and up or down."""


def r_against_effect(effects: pd.DataFrame, chosen: tuple[int, int] | None = None) -> go.Figure:
    """Each tried feature once, at its best scale: r against what steering with it did on the validation split.

    The feature of highest r and the one of best effect are named in the picture.
    """
    effects = effects.assign(points=100 * effects["effect"])
    sure = effects["p"] < 0.05
    figure = go.Figure()
    for mask, name, symbol in ((sure, "beyond noise (p < 0.05)", "circle"), (~sure, "within noise", "circle-open")):
        part = effects[mask]
        figure.add_trace(
            go.Scatter(
                x=part["r"],
                y=part["points"],
                name=name,
                mode="markers",
                marker={
                    "size": 11,
                    "symbol": symbol,
                    "color": UNSTEERED if symbol == "circle" else QUIET,
                    "line": {"width": 0 if symbol == "circle" else 1.5},
                },
                customdata=part[["layer", "feature", "scale"]].assign(
                    r=_of_r(part["r"]), effect=part["effect"].map(points), p=part["p"].map(p_value)
                ),
                hovertemplate=(
                    "layer %{customdata[0]} · feature %{customdata[1]}<br>r %{customdata[3]}<br>effect %{customdata[4]} "
                    "at scale %{customdata[2]:g}<br>%{customdata[5]}<extra></extra>"
                ),
            )
        )
    _ring(figure, effects, "r", "points", chosen)
    figure.add_hline(y=0, line={"color": QUIET, "width": 1})
    if len(effects):
        top, winner = effects["r"].idxmax(), effects["effect"].idxmax()
        _named(figure, effects, top, "highest r and best effect" if top == winner else "highest r")
        if top != winner:
            _named(figure, effects, winner, "best effect")
    figure.update_xaxes(title="r with success", tickformat=".2~f")
    figure.update_yaxes(title="Effect of steering, in points", tickformat="+.0f")
    return laid_out(figure, legend=True)


def predicted_against_measured(tried: pd.DataFrame) -> go.Figure:
    """Dots: the predicted change of the success rate to the right, the measured one up, in points; equal on the dashed line."""
    figure = go.Figure(
        go.Scatter(
            x=100 * tried["predicted"],
            y=100 * tried["effect"],
            mode="markers",
            marker={"size": 11, "color": STEERED, "opacity": 0.8, "line": {"width": 0.5, "color": QUIET}},
            customdata=tried[["layer", "feature", "scale"]].assign(
                r=_of_r(tried["r"]), predicted=tried["predicted"].map(points_alone), effect=tried["effect"].map(points)
            ),
            hovertemplate="layer %{customdata[0]} · feature %{customdata[1]} at scale %{customdata[2]:g}<br>"
            "predicted %{customdata[4]}, measured %{customdata[5]}<br>r %{customdata[3]}<extra></extra>",
        )
    )
    ends = [100 * float(min(tried["predicted"].min(), 0)), 100 * float(max(tried["predicted"].max(), 0))]
    line = {"color": QUIET, "width": 1.5, "dash": "dash"}
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip"))
    figure.update_xaxes(title="Predicted effect (points)", zeroline=True)
    figure.update_yaxes(title="Measured effect (points)", zeroline=True)
    return laid_out(figure)


def _of_r(values: pd.Series) -> list[str]:
    return [signed(value, 3) for value in values]


def _ring(figure: go.Figure, frame: pd.DataFrame, x: str, y: str, chosen: tuple[int, int] | None) -> None:
    """Draw a ring around the chosen feature."""
    if chosen is None:
        return
    row = frame[(frame["layer"] == chosen[0]) & (frame["feature"] == chosen[1])]
    marker = {"symbol": "circle-open", "size": 30, "color": STEERED, "line": {"width": 2.5}}
    figure.add_trace(go.Scatter(x=row[x], y=row[y], mode="markers", marker=marker, hoverinfo="skip", showlegend=False))


def _level(figure: go.Figure, level: float, text: str, *, below: bool = False) -> None:
    figure.add_hline(
        y=level,
        line={"color": STEERED, "width": 1.5, "dash": "dash"},
        annotation={"text": text, "font": {"color": "white", "size": 12}, "bgcolor": LABEL, "borderpad": 3},
        annotation_position="bottom left" if below else "top left",
    )


def _named(figure: go.Figure, effects: pd.DataFrame, which: Any, text: str) -> None:
    """Name a dot, above it or below it, where fewer others are in the way."""
    row = effects.loc[which]
    others = effects.drop(index=which)
    across = (others["r"] - row["r"]).abs() < NAME[0] * (np.ptp(effects["r"]) or 1)
    up = (others["points"] - row["points"])[across] / (np.ptp(effects["points"]) or 1)
    below = int(up.between(-NAME[1], 0).sum()) < int(up.between(0, NAME[1]).sum())
    figure.add_annotation(
        x=row["r"],
        y=row["points"],
        text=f"{text}: layer {int(row['layer'])} · {int(row['feature'])}",
        showarrow=True,
        arrowhead=0,
        arrowwidth=1,
        arrowcolor=QUIET,
        ax=0,
        ay=28 if below else -28,
    )


def against_rivals(rows: pd.DataFrame) -> go.Figure:
    """A strip a group of `rival_groups.grouped`, from above: a point each, with its 95% interval where it stands alone."""
    figure = go.Figure()
    for group, some in rows.groupby("group", sort=False):
        kind = some["kind"].iloc[0]
        colour = RIVAL_COLOURS[kind]
        alone = len(some) == 1
        figure.add_trace(
            go.Scatter(
                x=some["rate"],
                y=[html.escape(str(group), quote=False)] * len(some),
                mode="markers",
                marker={
                    "size": 13 if kind == "steered" else 10,
                    "symbol": RIVAL_SYMBOLS[kind],
                    "color": colour,
                    "opacity": 1 if alone else 0.55,
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": (some["high"] - some["rate"]) if alone else None,
                    "arrayminus": (some["rate"] - some["low"]) if alone else None,
                    "thickness": 2,
                    "width": 4,
                    "color": colour,
                    "visible": alone,
                },
                hovertemplate="%{y}: %{x:.1%}<extra></extra>",
            )
        )
    figure.add_vline(x=rows["rate"].iloc[0], line={"color": UNSTEERED, "width": 1.5, "dash": "dash"})
    figure.update_xaxes(title="Success rate", tickformat=".0%", automargin=True, nticks=5, tickangle=0)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True, ticksuffix="  ")
    return laid_out(figure, height=84 + 30 * rows["group"].nunique())
