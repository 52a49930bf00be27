"""Numbers as people read them, rounded to what they mean; what is undefined becomes a dash."""

from __future__ import annotations

from typing import Any

import pandas as pd

MINUS = "\u2212"
NOTHING = "–"


def missing(value: Any) -> bool:
    """None, nan or pandas' NA."""
    return bool(pd.isna(value))


def percent(value: float | None, digits: int = 1) -> str:
    """A share as 66.9%."""
    return NOTHING if value is None or missing(value) else f"{value:.{digits}%}"


def points(value: float | None) -> str:
    """A difference of two shares, in percentage points: +16.2 points."""
    if value is None or missing(value):
        return NOTHING
    return f"{signed(100 * value, 1)} points"


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
