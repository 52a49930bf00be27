"""The rows of every chart of success rates, and what the contenders in it are called: a rate with its interval, and what was gained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from corrsteer_core.statistics.rates import wilson

FLIPPED = "sign flipped"
"""Name of the control that turns the set's sign round."""
TURNED = "sign turned round"
"""What readers are told it is called."""
UNIGRAM = "unigram"
"""Name of the control that adds the set's mean push on words to the logits, as one constant; see `evaluation.unigram`."""
NOT_RANDOM = (FLIPPED, UNIGRAM)
"""The controls that are no random features of like frequency and norm, as all others are."""
BEYOND = "gain beyond one constant per class"
"""What is named where a task has classes and it could not be measured what a constant for each does."""
MIRROR = "mirror task"
"""What is named where a task's mirror (`evaluation.mirror`) could not be measured."""
CONSTRAINED = "constrained"
"""Name of the unsteered answers to multiple choice that may only be one of the choices."""
UNSTEERED_OFFSET, STEERED_OFFSET = "unsteered + its constants", "steered + its constants"
"""Names in a chart of both models with the constant per class that serves them best."""


def rate_row(
    summary: Mapping[str, Any], label: str, kind: str, rate: float, interval: Sequence[float]
) -> dict[str, Any]:
    """label, kind, rate, low, high, effect: a contender of a measurement against its unsteered model."""
    effect = rate - summary["unsteered_rate"]
    return {"label": label, "kind": kind, "rate": rate, "low": interval[0], "high": interval[1], "effect": effect}


def rates(summary: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Success rates for a chart, one row each: label, kind, rate, low, high, effect.

    `name` is the set's. Unsteered first, then the set, then both with one constant per class (kinds offset and
    steered-offset, where it was measured), then the controls, matched sets among them. Intervals are Wilson's at 95%.
    """
    return pd.DataFrame(list(_rate_rows(summary, name)))


def _rate_rows(summary: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    yield rate_row(summary, "unsteered", "unsteered", summary["unsteered_rate"], summary["unsteered_interval"])
    yield rate_row(summary, name, "steered", summary["steered_rate"], summary["steered_interval"])
    if summary.get("offset") and summary.get("beyond_prior"):
        for label, kind, rate in (
            (UNSTEERED_OFFSET, "offset", summary["offset"]["rate"]),
            (STEERED_OFFSET, "steered-offset", summary["beyond_prior"]["steered_rate"]),
        ):
            yield rate_row(summary, label, kind, rate, wilson(round(rate * summary["n"]), summary["n"]))
    for group in ("controls", "matched"):
        for control, one in summary.get(group, {}).items():
            yield rate_row(summary, shown_as(control), "control", one["steered_rate"], one["steered_interval"])


def shown_as(control: str) -> str:
    """What a chart calls a control."""
    return {UNIGRAM: "constant push on words", FLIPPED: TURNED}.get(control, control)
