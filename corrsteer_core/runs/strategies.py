"""Choosing features: CorrSteer-S and -A by r alone, -P and -V by what steering does on the validation split.

A strategy is an entry of STRATEGIES; command line, app and report read them there. Loads no torch: what a strategy asks
of a model, it asks its `Desk`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.formatting import points, signed
from corrsteer_core.runs.steering_set import SteeringRow
from corrsteer_core.statistics import rates
from corrsteer_core.statistics.best_of_many import corrected_p
from corrsteer_core.statistics.graded import sign_flip
from corrsteer_core.statistics.selection_stability import smallest_vector, within_noise_of

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


def rankable(features: pd.DataFrame, floor: int, *, negative: bool = False, signed: str = "r") -> pd.DataFrame:
    """Features that may be chosen, the best first: r and coefficient not 0, support at the floor or above.

    Ranked by `score` if the table has such a column, else by r. Only features of positive r, unless
    `negative` ones are asked for too: those are ranked by |r|, and will be subtracted. `signed` is the column whose
    sign counts, if not r: a feature may go with success within every class and against it over all.
    """
    # One that fired in failures alone has no mean over the right answers: there is nothing to add or to subtract.
    chosen = features[features["r"].notna() & (features["r"] != 0) & (features["support"] >= floor)]
    chosen = chosen[(chosen["coefficient"] != 0) & chosen[signed].notna() & (chosen[signed] != 0)]
    if not negative:
        chosen = chosen[chosen[signed] > 0]
    rank = chosen["score"] if "score" in chosen else chosen["r"]
    chosen = chosen.assign(rank=rank.abs() if negative else rank)
    chosen = chosen.assign(coefficient=chosen["coefficient"].where(chosen[signed] > 0, -chosen["coefficient"]))
    return chosen[chosen["rank"].notna()].sort_values(["rank", "layer", "feature"], ascending=[False, True, True])


def best_overall(features: pd.DataFrame) -> list[SteeringRow]:
    """CorrSteer-S: the one best feature over all layers (by r, the method's own ranking)."""
    return [as_row(feature) for feature in features.head(1).itertuples()]


def best_per_layer(features: pd.DataFrame, k: int = 1) -> list[SteeringRow]:
    """CorrSteer-A: the k best features of each layer (the paper's k is 1)."""
    top = features.groupby("layer", sort=True).head(k).sort_values("layer", kind="stable")
    return [as_row(feature) for feature in top.itertuples()]


def helpful(predicted: pd.DataFrame, *, negative: bool = False, by: str = "predicted_effect") -> pd.DataFrame:
    """Features whose prediction `by` is above 0, the best first; with `negative` also the others, to be subtracted."""
    effect = predicted[by]
    chosen = predicted.assign(
        coefficient=predicted["coefficient"].where(effect > 0, -predicted["coefficient"]),
        **{by: effect.abs() if negative else effect},
    )
    chosen = chosen[(chosen[by] > 0) & (chosen["coefficient"] != 0)]
    return chosen.sort_values([by, "layer", "feature"], ascending=[False, True, True])


def within_reach(
    predicted: pd.DataFrame, highest: float, longest: float = LONGEST, *, by: str = "predicted_effect"
) -> pd.DataFrame:
    """Helpful features by what is predicted of the largest scale that -V may try: `highest`, or that of the length `longest`.

    A large coefficient alone would else rank a feature first whose vector must then be cut.
    """
    reach = np.minimum(highest, longest / predicted["share"])
    order = (predicted[by] * reach).sort_values(ascending=False, kind="stable").index
    return predicted.loc[order]


def candidates(
    features: pd.DataFrame,
    k: int = PER_LAYER,
    scales: Sequence[float] = SCALES,
    predicted: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """What -V tries alone: in each layer the k features of highest r and the k first of `predicted`, each at every scale."""
    top = features.groupby("layer", sort=True).head(k)
    if predicted is not None:
        top = pd.concat([top, predicted.groupby("layer", sort=True).head(k)]).drop_duplicates(["layer", "feature"])
    top = top.sort_values("layer", kind="stable")
    return top[["layer", "feature", "r", "coefficient"]].merge(pd.DataFrame({"scale": list(scales)}), how="cross")


def between_lengths(candidates: pd.DataFrame, longest: float = LONGEST, shortest: float = SHORTEST) -> pd.DataFrame:
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
    """The candidates with what each did: outcomes are (samples,) unsteered and (samples, candidates) steered.

    p is McNemar's exact one or, for graded outcomes, that of the sign-flip test of their differences.
    """
    flipped = [rates.flips(unsteered, steered[:, place]) for place in range(len(candidates))]
    return candidates.assign(
        n=len(unsteered),
        unsteered_rate=float(unsteered.mean()),
        steered_rate=steered.mean(axis=0),
        positive_flips=[flip.positive for flip in flipped],
        negative_flips=[flip.negative for flip in flipped],
        p=[sign_flip(steered[:, place] - unsteered, seed=0).p for place in range(len(candidates))],
    )


def rises(effects: pd.DataFrame) -> pd.Series:
    """Whether each effect raises the rate by more than noise, by the one-sided test: p is two-sided and symmetric."""
    return (effects["steered_rate"] > effects["unsteered_rate"]) & (effects["p"] / 2 < rates.NOISE)


def beyond_noise(effects: pd.DataFrame) -> pd.DataFrame:
    """Candidates that raise the rate by more than noise, the best first (ties: the smaller scale)."""
    better = effects[rises(effects)]
    return better.sort_values(["steered_rate", "scale", "r"], ascending=[False, True, False])


def beyond_luck(effects: pd.DataFrame) -> pd.DataFrame:
    """Those of `beyond_noise` that still are when the threshold is corrected for how many candidates were tried.

    By `corrected_p` of the outcomes that effects are kept with; where outcomes are graded, none are kept, and p is
    multiplied by the number of tries (Bonferroni).
    """
    if effects.empty:
        return effects
    outcomes = outcome_matrix(effects)
    tried = 1.0 * len(effects) * effects["p"] / 2 if outcomes is None else corrected_p(*outcomes)
    return beyond_noise(effects[np.asarray(tried) < rates.NOISE])


def outcome_matrix(effects: pd.DataFrame) -> tuple[np.ndarray, np.ndarray] | None:
    """Outcomes (samples,) unsteered and (samples, candidates) steered, from stored bits; None where some were graded."""
    if effects.empty or "outcomes" not in effects or effects["outcomes"].isna().any():
        return None
    n = int(effects["n"].iloc[0])
    steered = np.array([outcomes_of(bits, n) for bits in effects["outcomes"]]).T
    return outcomes_of(effects["unsteered_outcomes"].iloc[0], n), steered


def grown(effects: pd.DataFrame, measure: Measure) -> list[SteeringRow]:
    """CorrSteer-V from measured effects: the best single candidate, then further layers while validation improves.

    In every round the best candidate of each layer not yet in the set is tried with it, and the best of these is
    kept if it improves on the set by more than noise and the luck of the round's tries (the same paired test). No rows
    when no candidate's effect is.
    """
    better = beyond_luck(effects)
    useful = better.drop_duplicates("layer")
    if useful.empty:
        return []
    rows = [as_row(next(_smallest_of_the_best(better).itertuples()))]
    while len(waiting := useful[~useful["layer"].isin([row.layer for row in rows])]):
        tried = [as_row(candidate) for candidate in waiting.itertuples()]
        before, *after = measure([rows, *([*rows, row] for row in tried)]).T
        best = max(range(len(tried)), key=lambda place: float(after[place].mean()))
        if corrected_p(before, np.array(after).T)[best] >= rates.NOISE:
            break
        rows.append(tried[best])
    return rows


def _smallest_of_the_best(better: pd.DataFrame) -> pd.DataFrame:
    """Of the candidates that cannot be distinguished from the best one on the same samples, the shortest vector; then the rarest.

    Needs the outcomes that effects are kept with; without them (graded outcomes), the best one.
    """
    if "outcomes" not in better or better["outcomes"].isna().any() or "frequency" not in better:
        return better.head(1)
    n = int(better["n"].iloc[0])
    outcomes = np.array([outcomes_of(bits, n) for bits in better["outcomes"]]).T
    alike = within_noise_of(0, outcomes)
    chosen = smallest_vector(alike, better["share"], better["frequency"])
    return better.iloc[[chosen]]


def outcomes_of(bits: str, n: int) -> np.ndarray:
    """Outcomes (n,) of 0 and 1 from the hexadecimal digits that effects are kept with, one bit a sample."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), dtype=np.uint8), count=n).astype(np.float64)


def pruned(effects: pd.DataFrame) -> list[SteeringRow]:
    """CorrSteer-P: of A's features, measured alone on the validation split, those that beat the unsteered rate."""
    kept = effects[effects["steered_rate"] > effects["unsteered_rate"]].sort_values("layer", kind="stable")
    return [as_row(feature) for feature in kept.itertuples()]


def seen_by_p(effects: pd.DataFrame) -> pd.DataFrame:
    """What P saw, layer by layer: `effects` with `kept`, and `noise` where what it did is within noise."""
    seen = effects.sort_values("layer", kind="stable")
    return seen.assign(kept=seen["steered_rate"] > seen["unsteered_rate"], noise=seen["p"] / 2 >= rates.NOISE)


def as_row(feature: Any) -> SteeringRow:
    """A row from a feature of a table; with a scale, the coefficient is multiplied by it."""
    scale = float(getattr(feature, "scale", 1.0))
    note = "r undefined" if math.isnan(feature.r) else f"r {signed(feature.r, 3)}"
    if "predicted_effect" in getattr(feature, "_fields", ()):
        note += f", predicted {points(feature.predicted_effect)}"
    if "score" in getattr(feature, "_fields", ()):
        note += f", score {feature.score:.3g}"
    if hasattr(feature, "steered_rate"):
        note += f", alone at {scale:g}x: {feature.unsteered_rate:.1%} to {feature.steered_rate:.1%} on validation"
    return SteeringRow(int(feature.layer), int(feature.feature), float(feature.coefficient) * scale, note=note)


# --- the strategies ------------------------------------------------------------------------------


class Desk(Protocol):
    """What a strategy may look at, and have measured, while it chooses."""

    features: pd.DataFrame
    """Those that may be chosen, the best first (see `rankable`)."""
    per_layer: int | None
    """How many of a layer were asked for; None: the strategy's own number."""

    def tried_at_once(self, per_layer: int) -> pd.DataFrame:
        """Effects of the best features of each layer, each steered alone at scale 1 on the validation split."""

    def tried_at_scales(self, per_layer: int) -> pd.DataFrame:
        """Effects of the best features of each layer, each steered alone at several scales on the validation split."""

    def measured(self, rounds: int) -> Measure:
        """What measures groups of features on the validation split; it will be asked at most `rounds` times."""


@dataclass(frozen=True)
class Strategy:
    """A way to choose a steering set."""

    name: str
    what: str
    """In words, after "the set is"."""
    choose: Callable[[Desk], list[SteeringRow]]
    by_steering: bool = False
    """Whether it chooses by what features do on the validation split, so that the choice itself needs a control."""
    best_of_many: bool = False
    """Whether it takes the best of many tries there."""
    counts_per_layer: bool = True
    """Whether it can be asked for so many features of each layer."""
    nothing: str = "no candidate's effect is beyond noise and the luck of so many tries"
    """Why its set is empty, where it is."""


def _grown(desk: Desk) -> list[SteeringRow]:
    found = desk.tried_at_scales(desk.per_layer or PER_LAYER)
    rounds = max(1, beyond_luck(found)["layer"].nunique() - 1)
    return grown(found, desk.measured(rounds))


STRATEGIES: dict[str, Strategy] = {
    one.name: one
    for one in (
        Strategy(
            "S",
            "the one feature that goes best with success",
            lambda desk: best_overall(desk.features),
            counts_per_layer=False,
        ),
        Strategy(
            "A",
            "the best-correlated feature of each layer",
            lambda desk: best_per_layer(desk.features, desk.per_layer or 1),
        ),
        Strategy(
            "P",
            "those of A that help when steered alone",
            lambda desk: pruned(desk.tried_at_once(desk.per_layer or 1)),
            by_steering=True,
            nothing="no feature of A helps alone",
        ),
        Strategy(
            "V",
            "chosen by what features do when steered, not by correlation",
            _grown,
            by_steering=True,
            best_of_many=True,
        ),
    )
}
BY_RATE = "V, by rate"
"""Name of V where it was asked to choose by the rate."""
PREFERRED = ("V", BY_RATE, "P", "S", "A")
"""The order in which sets are shown; others come after."""


def preference(name: str) -> int:
    """The place of a set's name when sets are shown, from 0; all that have none of their own come last."""
    return PREFERRED.index(name) if name in PREFERRED else len(PREFERRED)


def chosen_by_steering(name: str | None) -> bool:
    """Whether a set of this strategy was chosen by what steering does, so that its choice needs a control too."""
    return name in STRATEGIES and STRATEGIES[name].by_steering


def get_strategy(name: str) -> Strategy:
    """A strategy by name. Raises CorrSteerError for an unknown one."""
    if name not in STRATEGIES:
        raise CorrSteerError(f"Unknown strategy {name!r}; known are {', '.join(STRATEGIES)}.")
    return STRATEGIES[name]
