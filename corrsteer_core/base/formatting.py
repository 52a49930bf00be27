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
    size = round(100 * value, 1)
    return f"{'+' if size > 0 else MINUS if size < 0 else '±'}{abs(size):.1f} points"


def signed(value: float | None, digits: int = 2) -> str:
    """A correlation as +0.53."""
    if value is None or missing(value):
        return NOTHING
    return f"{value:+.{digits}f}".replace("-", MINUS)


def p_value(value: float | None) -> str:
    """A p-value as "p = 0.03" or "p < 0.001"."""
    if value is None or missing(value):
        return f"p {NOTHING}"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}" if value < 0.1 else f"p = {value:.2f}"
