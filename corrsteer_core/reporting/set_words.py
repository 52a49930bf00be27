"""What the features of a set stand for, in the words of their descriptions."""

from __future__ import annotations

import pandas as pd

from corrsteer_core.runs import feature_facts
from corrsteer_core.runs.steering_set import SteeringSet


def meaning(run: str, layer: int, feature: int) -> str:
    """What a feature is said to mean: Neuronpedia's words before our own guess; "" where nothing is known."""
    said = feature_facts.descriptions(run, layer, feature)
    return "" if said.empty else str(said["description"].iloc[0])


def meanings(run: str, steering: SteeringSet) -> pd.DataFrame:
    """layer, feature, coefficient, meaning: a row for each feature that the set adds."""
    rows = [
        (row.layer, row.feature, row.coefficient, meaning(run, row.layer, row.feature))
        for row in steering.rows
        if row.enabled
    ]
    return pd.DataFrame(rows, columns=["layer", "feature", "coefficient", "meaning"])
