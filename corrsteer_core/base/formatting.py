"""Numbers as people read them, rounded to what they mean; what is undefined becomes a dash, a minus is one sign.

The one rule for app, report and sentences; tables of the command line have numbers as programs read them, but for p and q.
"""

from __future__ import annotations

import math
from typing import Any

MINUS = "\u2212"
NOTHING = "–"


def missing(value: Any) -> bool:
    """None, nan or pandas' NA."""
    if value is None or isinstance(value, float):
        return value is None or math.isnan(value)
    import pandas as pd  # here, or the command line would load it to print its help

    return bool(pd.isna(value))


def percent(value: float | None, digits: int = 1) -> str:
    """A share as 66.9%."""
    return NOTHING if value is None or missing(value) else f"{value:.{digits}%}"


def points(value: float | None) -> str:
    """A difference of two shares, in percentage points: +16.2 points."""
    return NOTHING if value is None or missing(value) else f"{points_alone(value)} points"


def points_alone(value: float | None) -> str:
    """The same without the word, where a heading says it: +16.2."""
    return NOTHING if value is None or missing(value) else signed(100 * value, 1)


def number(value: float | None, digits: int = 2) -> str:
    """A number as 1.25."""
    return NOTHING if value is None or missing(value) else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """A correlation or a difference as +0.53; one that rounds to nothing as ±0.00."""
    if value is None or missing(value):
        return NOTHING
    size = f"{abs(value):.{digits}f}"
    return ("±" if float(size) == 0 else "+" if value > 0 else MINUS) + size


def probability(value: float | None) -> str:
    """A p or q as 0.031, 0.25 or < 0.001: two digits."""
    if value is None or missing(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.0995 else f"{value:.2f}"


def p_value(value: float | None) -> str:
    """A p-value as "p = 0.031" or "p < 0.001"."""
    said = probability(value)
    return f"p {said}" if said.startswith((NOTHING, "<")) else f"p = {said}"
