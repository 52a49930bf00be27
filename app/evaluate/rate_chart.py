"""Success rates with their intervals: unsteered, the set, and what it is compared with. Draws, computes nothing."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from app.shared import components
from corrsteer_core.base.formatting import points, points_alone
from corrsteer_core.reporting.figure_layout import FONT_SIZE
from corrsteer_core.reporting.figures import RIVAL_COLOURS, RIVAL_SYMBOLS
from corrsteer_core.reporting.palette import DIVERGING, STEERED, UNSTEERED

COLOURS = RIVAL_COLOURS | {"steered-offset": STEERED}
SYMBOLS = RIVAL_SYMBOLS | {"steered-offset": "diamond", "control": "diamond-open"}


def rates(rows: pd.DataFrame) -> go.Figure:
    """One line each of `corrsteer_core.reporting.rate_rows.rates`, from above: a point with its 95% interval, named beside it."""
    figure = go.Figure()
    rows = rows.assign(label=[_words(label) for label in rows["label"]])
    for kind, some in rows.groupby("kind", sort=False):  # a trace a kind, not a row: fewer to make and to draw
        colour = COLOURS[kind]
        figure.add_trace(
            go.Scatter(
                x=some["rate"],
                y=some["label"].tolist(),
                mode="markers",
                marker={"size": 11, "symbol": SYMBOLS[kind], "color": colour, "line": {"width": 2, "color": colour}},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": some["high"] - some["rate"],
                    "arrayminus": some["rate"] - some["low"],
                    "thickness": 2,
                    "width": 5,
                    "color": colour,
                },
                customdata=[[row.low, row.high, points(row.effect)] for row in some.itertuples()],
                hovertemplate="%{y}: %{x:.1%}<br>95% interval %{customdata[0]:.1%} to %{customdata[1]:.1%}<br>"
                "%{customdata[2]} against unsteered<extra></extra>",
            )
        )
    figure.add_vline(x=rows["rate"].iloc[0], line={"color": UNSTEERED, "width": 1.5, "dash": "dash"})
    figure.update_xaxes(title="Success rate", tickformat=".0%", automargin=True)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True, ticksuffix="  ")
    figure.update_yaxes(categoryorder="array", categoryarray=rows["label"].tolist())
    figure.update_layout(
        height=96 + 34 * len(rows),
        margin={"l": 8, "r": 16, "t": 8, "b": 8},
        showlegend=False,
        font={"size": FONT_SIZE},
        dragmode=False,
    )
    return figure


def by_scale(rows: pd.DataFrame) -> go.Figure:
    """Success rate against scale with its 95% interval, for one task of `comparisons.sweep`; unsteered as a line."""
    figure = go.Figure(
        go.Scatter(
            x=rows["scale"],
            y=rows["steered_rate"],
            mode="lines+markers",
            line={"color": STEERED, "width": 1.5},
            marker={"size": 10, "color": STEERED},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": rows["high"] - rows["steered_rate"],
                "arrayminus": rows["steered_rate"] - rows["low"],
                "thickness": 2,
                "width": 5,
                "color": STEERED,
            },
            customdata=rows[["low", "high", "n"]],
            hovertemplate="scale %{x:g}: %{y:.1%}<br>95% interval %{customdata[0]:.1%} to %{customdata[1]:.1%}<br>"
            "%{customdata[2]} samples<extra></extra>",
        )
    )
    figure.add_hline(y=rows["unsteered_rate"].iloc[0], line={"color": UNSTEERED, "width": 1.5, "dash": "dash"})
    figure.update_xaxes(title="Scale of the whole set", automargin=True)
    figure.update_yaxes(title="Success rate", tickformat=".0%", automargin=True)
    return _plain(figure, 320)


def trade_off(rows: pd.DataFrame, across: str, up: str, across_title: str, up_title: str) -> go.Figure:
    """One point per scale of `comparisons.sweep`: the rate on one task against that on another; Pareto points filled."""
    across_title, up_title = _words(across_title), _words(up_title)
    rates = rows.pivot_table(index="scale", columns="task", values="steered_rate")[[across, up]].dropna()
    best = set(rows.loc[rows["pareto"], "scale"])
    before = rows.drop_duplicates("task").set_index("task")["unsteered_rate"]
    figure = go.Figure(
        go.Scatter(
            x=rates[across],
            y=rates[up],
            mode="lines+markers+text",
            text=[f"{scale:g}×" for scale in rates.index],
            textposition="top center",
            line={"color": STEERED, "width": 1, "dash": "dot"},
            marker={
                "size": 12,
                "symbol": ["circle" if scale in best else "circle-open" for scale in rates.index],
                "color": STEERED,
                "line": {"width": 2, "color": STEERED},
            },
            hovertemplate=f"scale %{{text}}<br>{across_title} %{{x:.1%}}<br>{up_title} %{{y:.1%}}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[before[across]],
            y=[before[up]],
            mode="markers+text",
            text=["unsteered"],
            textposition="bottom center",
            marker={"size": 12, "symbol": "square", "color": UNSTEERED},
            hovertemplate="unsteered<br>%{x:.1%}, %{y:.1%}<extra></extra>",
        )
    )
    figure.update_xaxes(title=f"Success on {across_title}", tickformat=".0%", automargin=True)
    figure.update_yaxes(title=f"Success on {up_title}", tickformat=".0%", automargin=True)
    return _plain(figure, 380)


def matrix(effects: pd.DataFrame) -> go.Figure:
    """Effects in points as a heat map with the numbers in it: sets down, tasks across; empty where not measured."""
    values = 100 * effects
    most = max(float(values.abs().max().max() or 0), 1.0)
    words = effects.map(lambda value: "" if pd.isna(value) else points_alone(value))
    figure = go.Figure(
        go.Heatmap(
            z=values.to_numpy(),
            x=[_words(name) for name in values.columns],
            y=[_words(name) for name in values.index],
            text=words.to_numpy(),
            texttemplate="%{text}",
            textfont={"color": "#1b1f24"},
            colorscale=DIVERGING,
            zmin=-most,
            zmax=most,
            xgap=3,
            ygap=3,
            hoverongaps=False,
            colorbar={"title": "points", "thickness": 10, "outlinewidth": 0},
            hovertemplate="%{y} on %{x}: %{text} points<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    figure.update_xaxes(side="top", type="category", automargin=True)
    return _plain(figure, 110 + 44 * len(values))


def _words(text: object) -> str:
    """Text as Plotly shows it as it is: tags would be markup to it and %{…} a value, in titles and names alike."""
    return html.escape(components.plain(text), quote=False).replace("%{", "%&#123;")


def _plain(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 16, "t": 8, "b": 8},
        showlegend=False,
        font={"size": FONT_SIZE},
        dragmode=False,
    )
    return figure
