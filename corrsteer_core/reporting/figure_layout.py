"""What all Plotly figures of a run have in common."""

from __future__ import annotations

import plotly.graph_objects as go

FONT_SIZE = 13


def laid_out(figure: go.Figure, *, height: int = 380, legend: bool = False) -> go.Figure:
    """The figure at its height (pixels), without what the pages do not use: margins, zooming by dragging."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 32 if legend else 16, "b": 8},
        showlegend=legend,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"size": FONT_SIZE},
        hoverlabel={"font": {"size": FONT_SIZE}},
        dragmode=False,
        clickmode="event+select",
    )
    return figure
