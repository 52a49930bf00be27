"""One row of every chart of success rates: a label, its kind, its rate with an interval, and what it gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def rate_row(
    summary: Mapping[str, Any], label: str, kind: str, rate: float, interval: Sequence[float]
) -> dict[str, Any]:
    """label, kind, rate, low, high, effect: a contender of a measurement against its unsteered model."""
    effect = rate - summary["unsteered_rate"]
    return {"label": label, "kind": kind, "rate": rate, "low": interval[0], "high": interval[1], "effect": effect}
