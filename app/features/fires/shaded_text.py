"""A text whose tokens are shaded by the most active of the features that are looked at. Pure; all of it comes out harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.features import shades
from corrsteer_core.base.text_diff import escaped

if TYPE_CHECKING:
    import pandas as pd

    from corrsteer_core.inspection.firing import ReadText
    from corrsteer_core.inspection.token_activations import Span

NEAR = 12  # pieces around text and answer that are shown too
STYLE = (
    shades.STYLE
    + """<style>
.cs-shaded span.cs-picked {outline:2px solid currentColor;outline-offset:1px}
.cs-shaded .cs-around {opacity:.45}
.cs-legend {margin-bottom:.5rem}
</style>"""
)


def shaded(found: ReadText, pieces: pd.DataFrame, picked: int | None) -> str:
    """The whole text as HTML; `pieces` as from `by_piece` says what fires where, `picked` is the token that was chosen."""
    rows = {int(row.token): row for row in pieces.itertuples()}
    highest = max((_value(row) for row in rows.values()), default=0.0)
    out: list[str] = []
    hidden = _far_from_the_text(found)
    for at, span in enumerate(found.spans):
        if at in hidden:
            out += [] if at - 1 in hidden else ['<span class="cs-gap"> … </span>']
            continue
        if found.parts[span.start] == "answer" and found.parts[span.start - 1] != "answer":
            out.append('<span class="cs-word">answer</span>')
        row = next((rows[place] for place in range(span.start, span.stop) if place in rows), None)
        out.append(_piece(found, span, row, highest, picked))
    return f'<div class="cs-shaded">{"".join(out)}</div>'


def _far_from_the_text(found: ReadText) -> set[int]:
    """Places of the pieces that are neither of the text nor of the answer, nor near: examples, a long template."""
    own = [at for at, span in enumerate(found.spans) if found.parts[span.start] != "around"]
    near = {place for at in own for place in range(at - NEAR, at + NEAR + 1)}
    return set(range(len(found.spans))) - near


def highest(pieces: pd.DataFrame) -> float:
    """The largest activation of the text, where the shade is deepest."""
    return max((_value(row) for row in pieces.itertuples()), default=0.0)


def _value(row) -> float:
    return row.strongest[0][2] if row.strongest else 0.0


def _piece(found: ReadText, span: Span, row, most: float, picked: int | None) -> str:
    if row is None:
        return f'<span class="cs-around" title="does not count">{escaped(span.text)}</span>'
    alpha = shades.DEEPEST * _value(row) / most if most > 0 else 0.0
    classes = ["cs-answer"] if found.parts[span.start] == "answer" else []
    classes += ["cs-picked"] if picked is not None and span.start <= picked < span.stop else []
    names = ", ".join(f"layer {layer} · {feature} ({value:.2f})" for layer, feature, value in row.strongest)
    title = f"{row.features:,} fire{': ' + names if names else ''}"
    kind = f' class="{" ".join(classes)}"' if classes else ""
    return f'<span title="{title}"{kind} style="background:rgba({shades.HUE},{alpha:.2f})">{escaped(span.text)}</span>'
