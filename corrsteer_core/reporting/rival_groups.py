"""What a set was measured against, in the few groups that one small picture can show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from corrsteer_core.reporting.verdict import FLIPPED, shown_as
from corrsteer_core.statistics.rates import wilson

RANDOM = "random features"
CHOSEN_ALIKE = "random, chosen alike"
TURNED = "sign turned round"
CONSTANT = "constants, no SAE"
PROMPTS = "better prompts"


def grouped(summary: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Success rates of one measurement, a row each: group, kind, rate, low, high (Wilson's at 95%).

    `name` is the set's. Groups from above: unsteered, the set, then what it is compared with; a group of controls has a
    row for each of them.
    """
    return pd.DataFrame(list(_rows(summary, name)), columns=["group", "kind", "rate", "low", "high"])


def _rows(summary: Mapping[str, Any], name: str) -> Iterator[tuple[str, str, float, float, float]]:
    yield ("unsteered", "unsteered", summary["unsteered_rate"], *summary["unsteered_interval"])
    yield (name, "steered", summary["steered_rate"], *summary["steered_interval"])
    if offset := summary.get("offset"):
        yield (CONSTANT, "offset", offset["rate"], *wilson(round(offset["rate"] * summary["n"]), summary["n"]))
    for control, one in summary.get("controls", {}).items():
        group = RANDOM if control.startswith("random ") else TURNED if control == FLIPPED else shown_as(control)
        yield (group, "control", one["steered_rate"], *one["steered_interval"])
    for one in summary.get("matched", {}).values():
        yield (CHOSEN_ALIKE, "control", one["steered_rate"], *one["steered_interval"])
    for one in summary.get("tournament") or ():
        if one["kind"] != "offset":  # which has its row above
            group = PROMPTS if one["kind"] == "prompt" else one["rival"]
            yield (group, "control", one["rate"], *one["rate_interval"])
