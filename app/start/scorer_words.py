"""What counts as success in a file of the user's own, in words."""

from __future__ import annotations

import streamlit as st

from app.start import file_reading
from app.start.file_reading import Upload
from corrsteer_core.tasks.columns import Columns

SCORER_WORDS = {
    "letter": "The right letter (A, B, C ...)",
    "first_word": "The right first word",
    "number": "The right last number",
    "exact": "Exactly the target",
    "contains": "The target is in the answer",
    "regex": "The target, a pattern (regex), is found",
    "refusal": "The answer refuses",
    "no_refusal": "The answer does not refuse",
    "comply_or_refuse": "Refuses or complies as the target says",
    "positive_tone": "The answer has a positive tone",
    "negative_tone": "The answer has a negative tone",
    "numbered_list": "The answer is a numbered list",
}
"""By the name of the scorer."""


def draw(upload: Upload, columns: Columns | None) -> str | None:
    """The choice, which begins with what the file's right answers are usual for; None while there is none."""
    names = list(SCORER_WORDS)
    usual = file_reading.suited_to(upload, columns) if columns is not None else None
    return st.selectbox(
        "What counts as success",
        names,
        index=None if usual is None else names.index(usual),
        format_func=SCORER_WORDS.__getitem__,
        placeholder="choose",
        key=f"scorer-{upload.id}",
        help="How an answer is compared with its target: by first letter, first word, last number, ...",
    )
