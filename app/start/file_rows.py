"""The first rows of a file as they are, and which of its columns is what."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.shared import components as ui
from app.shared import tables
from app.start.file_reading import Upload
from corrsteer_core.tasks.columns import NONE, Columns, as_columns, guessed
from corrsteer_core.tasks.preview import Rows

WHAT_A_FILE_HOLDS = """\
**One sample a row**, in columns of any names:

- the **prompt**: what the model is asked
- the **right answer**, unless success shows in the answer itself (it refuses, it is a list)
- if you like, the **choices** among which it is, and the **split** (train, validation, test)
"""
FIELDS = {
    "prompt": ("Prompt", "What the model is asked. The only column that every file needs."),
    "target": ("Right answer", "What an answer is compared with; not needed where success shows in the answer itself."),
    "choices": ("Choices", 'Answers to choose among, as a list like ["A", "B"]; they make the classes of the task.'),
    "split": ("Split", "train, validation or test. Without it rows are divided 50 / 20 / 30."),
    "group": ("Subject", "Splits and limits keep subjects in proportion; without it right answers are."),
    "id": ("Name of a row", "A name of your own for each row."),
    "cluster": ("Cluster", "What rows share that were made together, a template say; they are then tested together."),
}
COMMON = ("prompt", "target", "choices", "split")
MOST_COLUMNS = 100  # that can be chosen
SHOWN_COLUMNS = 12
SHOWN_CELL = 160  # characters


def draw(upload: Upload, rows: Rows) -> Columns | None:
    """The boxes and the rows; None until it is said which column holds the prompts."""
    names = [name for name in rows.columns if name != NONE][:MOST_COLUMNS]
    known = guessed(names)
    st.markdown("**Which column is what**")
    chosen = {}
    for field, place in zip(COMMON, st.columns(len(COMMON)), strict=True):
        with place:
            chosen[field] = _box(upload, field, names, known.get(field))
    rest = [field for field in FIELDS if field not in COMMON]
    with st.expander("More columns: subject, name of a row, cluster"):
        for field, place in zip(rest, st.columns(len(rest)), strict=True):
            with place:
                chosen[field] = _box(upload, field, names, known.get(field))
    _table(rows)
    if chosen["prompt"] is None:
        return None
    return as_columns({field: column or NONE for field, column in chosen.items() if column or field in rows.columns})


def _box(upload: Upload, field: str, names: list[str], known: str | None) -> str | None:
    title, help = FIELDS[field]
    needed = field == "prompt"
    options = names if needed else [NONE, *names]  # a box that begins with a choice cannot be emptied
    place = None if needed else 0
    return st.selectbox(
        title,
        options,
        index=place if known is None else options.index(known),
        format_func=_named,
        placeholder="choose",
        help=help,
        key=f"column-{field}-{upload.id}",
    )


def _named(column: str) -> str:
    return "none" if column == NONE else ui.shortened(column, 40) or "(a name that cannot be shown)"


def _table(rows: Rows) -> None:
    names = rows.columns[:SHOWN_COLUMNS]
    cells = [
        ["" if row.get(name) is None else ui.shortened(str(row[name])[: 10 * SHOWN_CELL], SHOWN_CELL) for name in names]
        for row in rows.first
    ]
    heads = _apart([ui.shortened(name, 40) or "?" for name in names])
    more = len(rows.columns) - len(names)
    others = f", the first {len(names)} of {len(rows.columns):,} columns" if more else ""
    st.caption(f"The first {len(cells)} of {ui.counted(rows.count, 'row')}{others}, as they are in the file")
    st.dataframe(
        tables.harmless(pd.DataFrame(cells, columns=heads)),
        hide_index=True,
        width="stretch",
        alt="The first rows of the file",
    )


def _apart(heads: list[str]) -> list[str]:
    """The same heads, none of them twice, which a table cannot show."""
    return [
        f"{head} ({heads[:place].count(head) + 1})" if head in heads[:place] else head
        for place, head in enumerate(heads)
    ]
