"""A verdict in a box whose sign says what it amounts to."""

from __future__ import annotations

import streamlit as st

from app.shared import components
from corrsteer_core.reporting.verdict import Verdict

SIGNS = {
    "works": (st.success, ":material/check_circle:"),
    "harmful": (st.error, ":material/warning:"),
    "inconclusive": (st.info, ":material/help:"),
    "uncontrolled": (st.info, ":material/help:"),
    "not shown": (st.info, ":material/help:"),
}
OTHER = (st.warning, ":material/casino:")


def draw(found: Verdict, before: str = "") -> None:
    """The verdict's own sentence; `before` (markdown) stands before it."""
    box, icon = SIGNS.get(found.kind, OTHER)
    box(f"{before}{components.for_markdown(found.sentence)}", icon=icon)
