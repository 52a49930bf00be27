"""A verdict in a box whose sign says what it amounts to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from app.shared import components
from corrsteer_core.reporting.verdict import Kind, Verdict

SIGNS: dict[Kind, tuple[Callable[..., Any], str]] = {
    "works": (st.success, ":material/check_circle:"),
    "shifts": (st.warning, ":material/swap_horiz:"),
    "selection": (st.warning, ":material/casino:"),
    "no better": (st.warning, ":material/casino:"),
    "outdone": (st.warning, ":material/emoji_events:"),
    "uncontrolled": (st.info, ":material/balance:"),
    "chosen on": (st.warning, ":material/history_edu:"),
    "inconclusive": (st.info, ":material/help:"),
    "not shown": (st.info, ":material/help:"),
    "harmful": (st.error, ":material/warning:"),
    "nothing": (st.info, ":material/horizontal_rule:"),
}
"""Only what works is green; blue waits for more evidence, yellow looks like success and is not shown to be one."""


def draw(found: Verdict, before: str = "") -> None:
    """The verdict's own sentence; `before` (markdown) stands before it."""
    box, icon = SIGNS[found.kind]
    box(f"{before}{components.for_markdown(found.sentence)}", icon=icon)
