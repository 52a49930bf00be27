"""Pictures of a run as SVG, drawn from what `runs.feature_lists` returns; colours come from the page's style sheet.

Every picture is a string of SVG without script, style or address; names in it are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from corrsteer_core.base.formatting import percent, points, signed
from corrsteer_core.base.text_diff import escaped
from corrsteer_core.statistics.rates import NOISE

WIDTH = 720
ROW = 30
LEFT = 76
LONGEST_LABEL = 26


@dataclass(frozen=True)
class _Axis:
    """Values on a line of the picture, with round numbers marked."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, about: int = 6) -> list[float]:
        step = _round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        return [step * place for place in range(first, math.floor(self.high / step + 1e-9) + 1)]


def code(text: str) -> str:
    """A QR code of a text, dark on light in either theme, with the margin that readers of such codes need."""
    import segno

    made = segno.make_qr(text, error="m")
    drawn = made.svg_inline(border=4, dark="#000", light="#fff", svgclass=None, lineclass=None, omitsize=True)
    return drawn.replace("<svg ", '<svg role="img" aria-label="QR code of the link" shape-rendering="crispEdges" ', 1)


def rates(rows: pd.DataFrame) -> str:
    """`rate_rows.rates`: one line each, a point with its 95% interval; the unsteered rate as a dashed line."""
    top, bottom = 8, 8 + ROW * len(rows)
    low, high = math.floor(10 * rows["low"].min()) / 10, math.ceil(10 * rows["high"].max()) / 10
    axis = _Axis(low, max(high, low + 0.1), 200, 560)
    parts = [_vertical(axis, axis.ticks(), top, bottom, lambda tick: percent(tick, 0), "success rate")]
    at = axis.at(rows["rate"].iloc[0])
    parts.append(f'<line class="reference" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
    for place, row in enumerate(rows.itertuples()):
        y = top + ROW * (place + 0.5)
        x, left, right = (axis.at(value) for value in (row.rate, row.low, row.high))
        ends = "".join(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 5}" y2="{y + 5}"/>' for x in (left, right))
        parts.append(
            f'<text class="label" x="186" y="{y + 4}" text-anchor="end">{_label(row.label)}</text>'
            f'<g class="mark {row.kind}"><line x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}"/>{ends}'
            f"{_point(row.kind, x, y)}</g>"
            f'<text class="value" x="{WIDTH - 4}" y="{y + 4}" text-anchor="end">{percent(row.rate)} '
            f'<tspan class="quiet">{percent(row.low, 0)} to {percent(row.high, 0)}</tspan></text>'
        )
    return _svg(bottom + 44, "Success rates with their 95% intervals", parts)


def best_by_layer(rows: pd.DataFrame) -> str:
    """`feature_lists.best_by_layer`: the highest r of each layer as a bar, and what chance reaches there as a line across it."""
    top, bottom = 22, 230
    low = min(0.0, rows["r"].min())
    high = max(rows["r"].max(), rows["level"].max(), 0.05) * 1.12
    axis = _Axis(low, high, bottom, top)
    parts = [_horizontal(axis, axis.ticks(5), LEFT, WIDTH - 8, _tick_r, "highest r of the layer")]
    slot = (WIDTH - 8 - LEFT) / len(rows)
    width = min(46.0, 0.6 * slot)
    every = math.ceil(len(rows) / 24)
    for place, row in enumerate(rows.itertuples()):
        middle = LEFT + slot * (place + 0.5)
        y, zero = sorted((axis.at(row.r), axis.at(0)))
        kind = "steered" if row.r > row.level else "control"
        parts.append(
            f'<rect class="bar {kind}" x="{middle - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{max(zero - y, 1):.1f}"/>'
        )
        if pd.notna(row.level):
            x = width / 2 + 5
            parts.append(
                f'<line class="chance" x1="{middle - x:.1f}" x2="{middle + x:.1f}" y1="{axis.at(row.level):.1f}" '
                f'y2="{axis.at(row.level):.1f}"/>'
            )
        if place % every == 0:
            parts.append(
                f'<text class="tick" x="{middle:.1f}" y="{bottom + 18}" text-anchor="middle">{row.layer}</text>'
            )
        if len(rows) <= 12:
            above = min(y, axis.at(row.level) if pd.notna(row.level) else y) - 6
            parts.append(
                f'<text class="value" x="{middle:.1f}" y="{above:.1f}" text-anchor="middle">{signed(row.r)}</text>'
            )
    parts.append(f'<text class="axis" x="{(LEFT + WIDTH) / 2}" y="{bottom + 38}" text-anchor="middle">layer</text>')
    return _svg(bottom + 48, "Highest correlation of each layer against what chance reaches", parts)


def r_and_effect(best: pd.DataFrame) -> str:
    """`feature_lists.best_effects`: each tried feature at its best strength, its r to the right and its effect upwards."""
    top, bottom = 16, 290
    span = max(best["effect"].abs().max(), 0.02)
    across = _Axis(min(0.0, best["r"].min()), max(best["r"].max(), 0.05) * 1.08, LEFT, WIDTH - 20)
    upwards = _Axis(
        min(best["effect"].min() - 0.1 * span, -0.2 * span), max(1.4 * best["effect"].max(), 0.25 * span), bottom, top
    )
    parts = [
        _horizontal(upwards, upwards.ticks(5), LEFT, WIDTH - 20, _tick_points, "effect, in points"),
        "".join(
            f'<text class="tick" x="{across.at(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{_tick_r(tick)}</text>'
            for tick in across.ticks()
        ),
        f'<text class="axis" x="{(LEFT + WIDTH) / 2}" y="{bottom + 38}" text-anchor="middle">correlation r</text>',
        f'<line class="reference" x1="{LEFT}" x2="{WIDTH - 20}" y1="{upwards.at(0):.1f}" y2="{upwards.at(0):.1f}"/>',
    ]
    for row in best.itertuples():
        kind = "steered" if row.p < NOISE and row.effect > 0 else "control"
        says = (
            f"layer {row.layer} feature {row.feature}: r {signed(row.r)}, {points(row.effect)} at scale {row.scale:g}"
        )
        parts.append(
            f'<circle class="dot {kind}" cx="{across.at(row.r):.1f}" cy="{upwards.at(row.effect):.1f}" r="5.5">'
            f"<title>{says}</title></circle>"
        )
    parts += _named(best, across, upwards)
    return _svg(bottom + 48, "Correlation of each tried feature against the effect of steering with it", parts)


def _named(best: pd.DataFrame, across: _Axis, upwards: _Axis) -> Iterator[str]:
    """A name beside the feature of highest r and the one of best effect."""
    highest, winner = best["r"].idxmax(), best["effect"].idxmax()
    names = {highest: "highest r", winner: "best effect"} if highest != winner else {winner: "highest r, best effect"}
    for index, name in names.items():
        row = best.loc[index]
        x, y = across.at(row["r"]), upwards.at(row["effect"])
        side, anchor = (-10, "end") if x > WIDTH * 0.7 else (10, "start")
        text = f"{name}: layer {int(row['layer'])} · {int(row['feature'])}"
        yield f'<text class="name" x="{x + side:.1f}" y="{y - 9:.1f}" text-anchor="{anchor}">{text}</text>'


def _point(kind: str, x: float, y: float) -> str:
    """Shapes differ as colours do."""
    if kind == "unsteered":
        return f'<rect class="point" x="{x - 5.5:.1f}" y="{y - 5.5:.1f}" width="11" height="11"/>'
    if kind == "steered":
        return f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    # a diamond; the style fills those of the constants per class and leaves those of controls open
    return f'<path class="point" d="M{x - 6:.1f} {y}L{x:.1f} {y - 6}L{x + 6:.1f} {y}L{x:.1f} {y + 6}Z"/>'


def _vertical(axis: _Axis, ticks: Sequence[float], top: float, bottom: float, name, title: str) -> str:
    """Marks of an axis that runs to the right."""
    lines = "".join(
        f'<line class="grid" x1="{axis.at(tick):.1f}" x2="{axis.at(tick):.1f}" y1="{top}" y2="{bottom}"/>'
        f'<text class="tick" x="{axis.at(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{name(tick)}</text>'
        for tick in ticks
    )
    middle = (axis.start + axis.end) / 2
    return f'{lines}<text class="axis" x="{middle}" y="{bottom + 38}" text-anchor="middle">{title}</text>'


def _horizontal(axis: _Axis, ticks: Sequence[float], left: float, right: float, name, title: str) -> str:
    """Marks of an axis that runs upwards."""
    lines = "".join(
        f'<line class="grid" x1="{left}" x2="{right}" y1="{axis.at(tick):.1f}" y2="{axis.at(tick):.1f}"/>'
        f'<text class="tick" x="{left - 8}" y="{axis.at(tick) + 4:.1f}" text-anchor="end">{name(tick)}</text>'
        for tick in ticks
    )
    middle = (axis.start + axis.end) / 2
    return f'{lines}<text class="axis" x="14" y="{middle}" transform="rotate(-90 14 {middle})" text-anchor="middle">{title}</text>'


def _tick_r(tick: float) -> str:
    return signed(tick) if abs(tick) >= 0.005 else "0"


def _tick_points(tick: float) -> str:
    return signed(100 * tick, 0) if abs(tick) >= 0.005 else "0"


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least as large."""
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(size * unit for size in (1, 2, 5, 10) if size * unit >= rough - 1e-12)


def _label(text: str) -> str:
    one_line = " ".join(str(text).split())
    return escaped(one_line if len(one_line) <= LONGEST_LABEL else one_line[: LONGEST_LABEL - 1] + "…")


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{title}"><title>{title}</title>'
        f"{''.join(parts)}</svg>"
    )
