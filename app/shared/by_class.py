"""What a set does to each kind of answer, one click away from wherever its rate stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import components as ui
from app.shared import tables
from corrsteer_core.reporting import prior_words

LABEL = "By kind of answer"


def draw(summary: Mapping[str, Any]) -> None:
    """The rates by class of the right answer behind a button; nothing where the task has no classes."""
    found = prior_words.class_table(summary)
    if not found.rows:
        return
    with st.popover(LABEL, icon=":material/category:"):
        st.markdown(f"**{found.title}**")
        st.caption(f"On the same {summary['n']:,} samples, by which answer is the right one")
        table(found)


def table(found: prior_words.Table) -> None:
    """A table of the words as they are: names of classes may be a user's own."""
    heads = [ui.plain(head) for head in found.heads]
    rows = [[ui.plain(cell) for cell in row] for row in found.rows]
    right = {head: st.column_config.TextColumn(alignment="right") for head in heads[1:]}
    frame = pd.DataFrame(rows, columns=heads)
    st.dataframe(tables.harmless(frame), hide_index=True, width="stretch", alt=found.title, column_config=right)
