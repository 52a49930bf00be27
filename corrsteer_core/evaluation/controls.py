"""What a steering set is compared with: vectors of the same size that have no reason to work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet
from corrsteer_core.saes.sae import Sae

NEIGHBOURS = 30
"""A random feature is drawn among so many of the closest frequency."""


def random_like(
    steering: SteeringSet, features: pd.DataFrame, saes: Sequence[Sae], *, count: int, seed: int = 0
) -> list[SteeringSet]:
    """Sets in which every feature is replaced by a random one of its layer, of like frequency and equal norm.

    `features` needs layer, feature and frequency. Coefficients are set so that what is added in each layer is as long as
    the original's there, in the same proportions. No two sets, and no set and the original, share a feature.
    """
    rng = np.random.default_rng(seed)
    used = {(row.layer, row.feature) for row in steering.rows}
    by_layer = {sae.layer: sae for sae in saes}
    sets = []
    for number in range(1, count + 1):
        rows: list[SteeringRow] = []
        for layer in dict.fromkeys(row.layer for row in steering.active_rows):
            own = [row for row in steering.active_rows if row.layer == layer]
            others = []
            for row in own:
                others.append(_like(row, features, used, rng))
                used.add((layer, others[-1]))
            rows += _as_long(own, others, by_layer[layer])
        sets.append(steering.with_rows(rows, f"random {number}"))
    return sets


def _as_long(own: Sequence[SteeringRow], others: Sequence[int], sae: Sae) -> list[SteeringRow]:
    """Rows of other features, each as long as its original, then together as long as the originals together."""
    layer = own[0].layer
    directions = sae.directions([row.feature for row in own])
    random = sae.directions(others)
    coefficients = directions.new_tensor([row.coefficient for row in own])
    alike = coefficients * directions.norm(dim=-1) / random.norm(dim=-1)
    together, sum_of_others = (coefficients @ directions).norm(), (alike @ random).norm()
    if float(sum_of_others):  # else the originals cancel, or have no length
        alike = alike * together / sum_of_others
    return [SteeringRow(layer, other, float(c)) for other, c in zip(others, alike, strict=True)]


def flipped(steering: SteeringSet) -> SteeringSet:
    """The set with its sign turned round."""
    return replace(-steering, name="sign flipped")


def _like(row: SteeringRow, features: pd.DataFrame, used: set[tuple[int, int]], rng: np.random.Generator) -> int:
    layer = features[features["layer"] == row.layer]
    own = layer.loc[layer["feature"] == row.feature, "frequency"]
    free = layer[~layer["feature"].map(lambda feature: (row.layer, feature) in used)]
    if free.empty:
        raise CorrSteerError(
            f"There is no other feature in layer {row.layer} to compare feature {row.feature} with; evaluate with fewer controls."
        )
    often = 0.0 if own.empty else own.iloc[0]  # one that never fired has no row
    return int(free.loc[_drawn(free, often, rng), "feature"])


def _drawn(free: pd.DataFrame, frequency: float, rng: np.random.Generator) -> int:
    """The index of a random row among the NEIGHBOURS of closest frequency."""
    distance = (free["frequency"] - frequency).abs()
    return int(rng.choice(distance.sort_values(kind="stable").index[:NEIGHBOURS].to_numpy()))


def like_frequency(wanted: pd.DataFrame, open_to: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """For each wanted feature a random one of its layer, of like frequency, no two alike; rows of `open_to`.

    Like: among the NEIGHBOURS of closest frequency. No wanted feature is drawn. Both tables need layer, feature and
    frequency. Raises CorrSteerError for a layer without so many others.
    """
    used = {(int(layer), int(feature)) for layer, feature in zip(wanted["layer"], wanted["feature"], strict=True)}
    drawn: list[int] = []
    by_layer = dict(tuple(open_to.groupby("layer")))
    for row in wanted.itertuples():
        layer = by_layer.get(row.layer, open_to.iloc[:0])
        free = layer[[(row.layer, feature) not in used for feature in layer["feature"]]]
        if free.empty:
            raise CorrSteerError(f"Layer {row.layer} has no other features to draw in place of feature {row.feature}.")
        drawn.append(_drawn(free, row.frequency, rng))
        used.add((row.layer, int(open_to.loc[drawn[-1], "feature"])))
    return open_to.loc[drawn].reset_index(drop=True)
