"""Is it more than a changed prior? The block under an evaluation's verdict, in the report's own words."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.shared import by_class
from app.shared import components as ui
from corrsteer_core.reporting import prior_words


def draw(summary: dict[str, Any]) -> None:
    """The three numbers, the classes one by one, the confusion tables folded; nothing where the task has no classes."""
    words = prior_words.prior_words(summary)
    if words is None:
        return
    with st.container(border=True):
        if words.figures:
            st.markdown(f"**{prior_words.TITLE}**", help=prior_words.EXPLAINED)
        else:
            st.markdown(f"**{prior_words.ANSWERED}**")
        for place, one in zip(st.columns(max(1, len(words.figures))), words.figures, strict=False):
            place.metric(one.label, one.value)
            place.caption(ui.for_markdown(one.note))
        if words.sentence:
            st.markdown(ui.for_markdown(words.sentence))
        by_class.table(words.classes)
        if words.remark:
            st.caption(ui.for_markdown(words.remark))
        if words.confusion:
            with st.expander("Which classes were answered where which are right"):
                for table in words.confusion:
                    st.caption(table.title)
                    by_class.table(table)
