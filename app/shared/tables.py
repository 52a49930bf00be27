"""Tables whose cells stay text where they are saved as CSV: the button for that is Streamlit's, what it writes is the cells.

A spreadsheet runs a cell that begins with = + - @ (also after a tab or a new line) as a formula, which may send away
what stands beside it. Names, prompts and tokens are other people's, so such a text is begun with an invisible word
joiner: it looks the same and runs nowhere. Numbers stay numbers.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

JOINER = "\u2060"
_RUNS = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:e[+-]?\d+)?(?: ?%| [a-z ]*)?")
"""A number, with its unit: no formula, whatever it begins with."""


def harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with no cell and no heading that a spreadsheet would run; call it on everything that is shown."""
    made = frame.rename(columns=text)
    for place, dtype in enumerate(frame.dtypes):
        if not (pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_datetime64_any_dtype(dtype)):
            made.isetitem(place, frame.iloc[:, place].map(text))
    if not isinstance(frame.index, pd.MultiIndex) and not pd.api.types.is_numeric_dtype(frame.index.dtype):
        made.index = made.index.map(text)
    return made


def as_csv(frame: pd.DataFrame) -> bytes:
    """A table as a file that a spreadsheet may open."""
    return harmless(frame).to_csv(index=False).encode()


def text(cell: Any) -> Any:
    """A cell that a spreadsheet takes as it is; of a list, each entry."""
    if isinstance(cell, (list, tuple)):
        return [text(one) for one in cell]
    if isinstance(cell, str) and _RUNS.match(cell) and not _NUMBER.fullmatch(cell):
        return JOINER + cell
    return cell
