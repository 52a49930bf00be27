"""Choosing features: CorrSteer-S and -A by r alone, -P and -V by what steering does on the validation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from corrsteer_core.runs.steering_set import SteeringRow
from corrsteer_core.statistics import rates

SCALES = (1.0, 2.0, 4.0, 8.0)
PER_LAYER = 8
LONGEST = 0.05
"""A candidate's vector is at most this share of the activation it is added to. Longer ones were measured to change
answers whatever their direction: what they do says little about the feature (see README, "Measured")."""
SHORTEST = 0.025
"""Shorter vectors than this share are not tried beside a longer one of the same feature: every candidate costs a
position per validation sample, and such a one was measured to flip 1 in 100 answers (sentiment, validation)."""

Measure = Callable[[Sequence[Sequence[SteeringRow]]], np.ndarray]
"""Outcomes (samples, variants) on the validation split of each group of rows steered together."""


def rankable(features: pd.DataFrame, floor: int, *, negative: bool = False) -> pd.DataFrame:
    """Features that may be chosen, the best first: r and coefficient not 0, support at the floor or above.

    Ranked by `score` if the table has such a column, else by r. Only features of positive r, unless
    `negative` ones are asked for too: those are ranked by |r|, and will be subtracted.
    """
    # One that fired in failures alone has no mean over the right answers: there is nothing to add or to subtract.
    chosen = features[features["r"].notna() & (features["r"] != 0) & (features["support"] >= floor)]
    chosen = chosen[chosen["coefficient"] != 0]
    if not negative:
        chosen = chosen[chosen["r"] > 0]
    rank = chosen["score"] if "score" in chosen else chosen["r"]
    chosen = chosen.assign(rank=rank.abs() if negative else rank)
    chosen = chosen.assign(coefficient=chosen["coefficient"].where(chosen["r"] > 0, -chosen["coefficient"]))
    return chosen[chosen["rank"].notna()].sort_values(["rank", "layer", "feature"], ascending=[False, True, True])


def best_overall(features: pd.DataFrame) -> list[SteeringRow]:
    """CorrSteer-S: the one best feature over all layers (by r, the method's own ranking)."""
    return [as_row(feature) for feature in features.head(1).itertuples()]


def best_per_layer(features: pd.DataFrame, k: int = 1) -> list[SteeringRow]:
    """CorrSteer-A: the k best features of each layer (the paper's k is 1)."""
    top = features.groupby("layer", sort=True).head(k).sort_values("layer", kind="stable")
    return [as_row(feature) for feature in top.itertuples()]


def candidates(features: pd.DataFrame, k: int = PER_LAYER, scales: Sequence[float] = SCALES) -> pd.DataFrame:
    """What -V tries alone: the k features of highest r in each layer, each at every scale."""
    top = features.groupby("layer", sort=True).head(k).sort_values("layer", kind="stable")
    return top[["layer", "feature", "r", "coefficient"]].merge(pd.DataFrame({"scale": list(scales)}), how="cross")


def gentle(candidates: pd.DataFrame, longest: float = LONGEST, shortest: float = SHORTEST) -> pd.DataFrame:
    """The candidates at scales that keep their vectors between two lengths.

    `share` is a vector's length over that of the activation it is added to. One longer than `longest` is tried at
    that length instead (its scale rounded down to two digits); shorter ones than `shortest` are left out, but for the
    longest of each feature: all k are tried.
    """
    over = (candidates["share"] / longest).clip(lower=1)
    scale = candidates["scale"].copy()
    scale[over > 1] = (candidates["scale"] / over)[over > 1].map(_two_digits)
    share = candidates["share"] * scale / candidates["scale"]
    found = candidates.assign(scale=scale, share=share)
    what = [name for name in ("layer", "feature") if name in found]  # a difference vector is no feature
    longest_of_each = found.groupby(what)["share"].transform("max")
    found = found[(found["share"] >= min(shortest, longest)) | (found["share"] == longest_of_each)]
    return found.drop_duplicates([*what, "scale"]).reset_index(drop=True)


def _two_digits(value: float) -> float:
    """Rounded down to two significant digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit + 1e-9) * unit:.2g}")


def effects(candidates: pd.DataFrame, unsteered: np.ndarray, steered: np.ndarray) -> pd.DataFrame:
    """The candidates with what each did: outcomes are (samples,) unsteered and (samples, candidates) steered."""
    flipped = [rates.flips(unsteered, steered[:, place]) for place in range(len(candidates))]
    return candidates.assign(
        n=len(unsteered),
        unsteered_rate=float(unsteered.mean()),
        steered_rate=steered.mean(axis=0),
        positive_flips=[flip.positive for flip in flipped],
        negative_flips=[flip.negative for flip in flipped],
        p=[rates.mcnemar_p(flip.positive, flip.negative) for flip in flipped],
    )


def beyond_noise(effects: pd.DataFrame) -> pd.DataFrame:
    """Candidates that raise the rate by more than noise, the best first (ties: the smaller scale)."""
    rises = rates.rises(effects["positive_flips"], effects["negative_flips"], effects["p"])
    better = effects[(effects["steered_rate"] > effects["unsteered_rate"]) & rises]
    return better.sort_values(["steered_rate", "scale", "r"], ascending=[False, True, False])


def grown(effects: pd.DataFrame, measure: Measure) -> list[SteeringRow]:
    """CorrSteer-V from measured effects: the best single candidate, then further layers while validation improves.

    In every round the best candidate of each layer not yet in the set is tried with it, and the best of these is
    kept if it improves on the set by more than noise (the same paired test). No rows when no candidate's effect is
    beyond noise.
    """
    useful = beyond_noise(effects).drop_duplicates("layer")
    if useful.empty:
        return []
    rows = [as_row(next(useful.itertuples()))]
    while len(waiting := useful[~useful["layer"].isin([row.layer for row in rows])]):
        tried = [as_row(candidate) for candidate in waiting.itertuples()]
        before, *after = measure([rows, *([*rows, row] for row in tried)]).T
        best = max(range(len(tried)), key=lambda place: float(after[place].mean()))
        if not _improves(before, after[best]):
            break
        rows.append(tried[best])
    return rows


def _improves(before: np.ndarray, after: np.ndarray) -> bool:
    flipped = rates.flips(before, after)
    return rates.rises(flipped.positive, flipped.negative, rates.mcnemar_p(flipped.positive, flipped.negative))


def pruned(effects: pd.DataFrame) -> list[SteeringRow]:
    """CorrSteer-P: of A's features, measured alone on the validation split, those that beat the unsteered rate."""
    kept = effects[effects["steered_rate"] > effects["unsteered_rate"]].sort_values("layer", kind="stable")
    return [as_row(feature) for feature in kept.itertuples()]


def seen_by_p(effects: pd.DataFrame) -> pd.DataFrame:
    """What P saw, layer by layer: `effects` with `kept`, and `noise` where flips that uneven come about by chance."""
    seen = effects.sort_values("layer", kind="stable")
    rises = rates.rises(seen["positive_flips"], seen["negative_flips"], seen["p"])
    return seen.assign(kept=seen["steered_rate"] > seen["unsteered_rate"], noise=~rises)


def as_row(feature: Any) -> SteeringRow:
    """A row from a feature of a table; with a scale, the coefficient is multiplied by it."""
    scale = float(getattr(feature, "scale", 1.0))
    note = f"r {feature.r:+.3f}"
    if "score" in getattr(feature, "_fields", ()):
        note += f", score {feature.score:.3g}"
    if hasattr(feature, "steered_rate"):
        note += f", alone at {scale:g}x: {feature.unsteered_rate:.1%} to {feature.steered_rate:.1%} on validation"
    return SteeringRow(int(feature.layer), int(feature.feature), float(feature.coefficient) * scale, note=note)
