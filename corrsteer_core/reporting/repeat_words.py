"""What of a run's prompts is there more than once, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sentences(config: Mapping[str, Any]) -> list[str]:
    """From a run's configuration; none where nothing repeats, or where a release of before did not look."""
    copies, contradictions, near = (config.get(name) or 0 for name in ("copies", "contradictions", "near_copies"))
    found = []
    if copies:
        found.append(f"{_counted(copies, 'row was', 'rows were')} left out: the prompt was there already.")
    if contradictions:
        found.append(
            f"{_counted(contradictions, 'prompt was', 'prompts were')} there with several targets; the first one holds, "
            f"whatever is answered."
        )
    if near:
        found.append(
            f"{_counted(near, 'test sample nearly repeats', 'test samples nearly repeat')} one that features are ranked or "
            f"chosen on (nine in ten of their words): what holds there may not hold elsewhere."
        )
    return found


def _counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
