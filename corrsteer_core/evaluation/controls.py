"""What a steering set is compared with: vectors of the same size that have no reason to work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.reporting.rate_rows import FLIPPED
from corrsteer_core.reporting.rival_groups import LIKE
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet
from corrsteer_core.saes.sae import Sae

NEIGHBOURS = 30
"""A random feature is drawn among so many of the closest frequency."""
TOLERANCE = LIKE
"""And its frequency (share of training samples in which it fires) differs by no more than this, where there is such a one."""


def random_like(
    steering: SteeringSet, features: pd.DataFrame, saes: Sequence[Sae], *, count: int, floor: int = 0, seed: int = 0
) -> list[SteeringSet]:
    """Sets in which every feature is replaced by a random one of its layer, of like frequency and equal norm.

    `features` needs layer, feature and frequency, and support where only those of support `floor` or more are drawn.
    Coefficients are set so that what is added in each layer is as long as the original's there, in the same proportions. A
    random feature is used as the original is: same operation, same conditions, a unit of it as long.
    No set shares a feature with the original, and no two do while there are others left.
    """
    rng = np.random.default_rng(seed)
    own_features = {(row.layer, row.feature) for row in steering.rows}
    open_to = features[features["support"] >= floor] if floor else features
    used, by_layer, sets = set(own_features), {sae.layer: sae for sae in saes}, []
    for number in range(1, count + 1):
        rows: list[SteeringRow] = []
        for layer in dict.fromkeys(row.layer for row in steering.active_rows):
            own = [row for row in steering.active_rows if row.layer == layer]
            others: list[int] = []
            for row in own:
                not_again = own_features | {(layer, other) for other in others}
                others.append(_like(row, features, open_to, (used | not_again, not_again), rng))
                used.add((layer, others[-1]))
            rows += _as_long(own, others, by_layer[layer])
        sets.append(steering.with_rows(rows, f"random {number}"))
    return sets


def _as_long(own: Sequence[SteeringRow], others: Sequence[int], sae: Sae) -> list[SteeringRow]:
    """Rows of other features, each as long as its original, then additions together as long as the originals together."""
    directions = sae.directions([row.feature for row in own])
    random = sae.directions(others)
    coefficients = directions.new_tensor([row.coefficient for row in own])
    alike = coefficients * directions.norm(dim=-1) / random.norm(dim=-1)
    adding = directions.new_tensor([row.operation == "add" for row in own])
    together, sum_of_others = ((coefficients * adding) @ directions).norm(), ((alike * adding) @ random).norm()
    if float(sum_of_others):  # else the originals cancel, or have no length
        alike = torch.where(adding > 0, alike * together / sum_of_others, alike)
    return [
        replace(row, feature=other, coefficient=float(c), note="")
        for row, other, c in zip(own, others, alike, strict=True)
    ]


def flipped(steering: SteeringSet) -> SteeringSet:
    """The set with its sign turned round."""
    return replace(-steering, name=FLIPPED)


def _like(
    row: SteeringRow,
    features: pd.DataFrame,
    open_to: pd.DataFrame,
    taken: Sequence[set[tuple[int, int]]],
    rng: np.random.Generator,
) -> int:
    """A feature in place of a row's, none of the first of `taken` or, where that leaves none, none of the next."""
    layer = open_to[open_to["layer"] == row.layer]
    known = features[(features["layer"] == row.layer) & (features["feature"] == row.feature)]
    often = 0.0 if known.empty else known["frequency"].iloc[0]  # one that never fired has no row
    for some in taken:
        free = layer[[(row.layer, feature) not in some for feature in layer["feature"]]]
        if len(free):
            return int(free.loc[_drawn(free, often, rng), "feature"])
    raise CorrSteerError(
        f"There is no other feature in layer {row.layer} to compare feature {row.feature} with; evaluate without controls."
    )


def frequencies(steering: SteeringSet, features: pd.DataFrame) -> tuple[float, ...]:
    """The share of training samples in which each of the set's active features fires, in their order; 0 for never."""
    known = features.set_index(["layer", "feature"])["frequency"]
    return tuple(float(known.get((row.layer, row.feature), 0.0)) for row in steering.active_rows)


def _drawn(free: pd.DataFrame, frequency: float, rng: np.random.Generator) -> int:
    """The index of a random row among the NEIGHBOURS of closest frequency within TOLERANCE; of none, the closest."""
    distance = (free["frequency"] - frequency).abs().sort_values(kind="stable")
    near = distance[distance <= TOLERANCE].index[:NEIGHBOURS]
    return int(rng.choice(near.to_numpy())) if len(near) else int(distance.index[0])


def like_frequency(wanted: pd.DataFrame, open_to: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """For each wanted feature a random one of its layer, of like frequency, no two alike; rows of `open_to`.

    Like: see `_drawn`. No wanted feature is drawn. Both tables need layer, feature and frequency. Raises CorrSteerError
    for a layer without so many others.
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
