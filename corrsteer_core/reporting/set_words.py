"""What the features of a set stand for, in the words of their descriptions."""

from __future__ import annotations

import pandas as pd

from corrsteer_core.runs import feature_facts
from corrsteer_core.runs.steering_set import SteeringSet

NAMED = 4
"""So many of the words that a feature makes likelier are named."""


def meaning(run: str, layer: int, feature: int) -> str:
    """What a feature is said to mean: Neuronpedia's words, else the words it makes likelier; "" where nothing is known."""
    said = feature_facts.descriptions(run, layer, feature)
    for row in said.itertuples():
        if row.source != "own":
            return str(row.description)
        words = _distinct("" if pd.isna(row.promoted) else str(row.promoted))
        if words:
            return "makes " + ", ".join(f"\u201c{word}\u201d" for word in words) + " likelier"
    return ""


def _distinct(promoted: str) -> list[str]:
    """The first few promoted tokens that are words and differ in more than case and space."""
    found: dict[str, str] = {}
    for token in promoted.split("\n"):
        if any(character.isalpha() for character in token):
            found.setdefault(token.strip().lower(), token.strip())
    return list(found.values())[:NAMED]


def meanings(run: str, steering: SteeringSet) -> pd.DataFrame:
    """layer, feature, coefficient, meaning: a row for each feature that the set adds."""
    rows = [
        (row.layer, row.feature, row.coefficient, meaning(run, row.layer, row.feature))
        for row in steering.rows
        if row.enabled
    ]
    return pd.DataFrame(rows, columns=["layer", "feature", "coefficient", "meaning"])
