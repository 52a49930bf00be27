"""What may be chosen, and what each candidate does when it is steered alone on the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, part_of, silent
from corrsteer_core.correlation import rankings
from corrsteer_core.engine.activation_lengths import stream_lengths
from corrsteer_core.method.run_setup import Setup, reopen
from corrsteer_core.method.validation import default_objective, steered_alone
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.prompts import render
from corrsteer_core.runs import strategies
from corrsteer_core.runs.fit import sae_sizes, training_activations, training_classes, training_outcomes
from corrsteer_core.runs.objectives import Objective
from corrsteer_core.runs.predictions import PREDICTED, TILT, needed_predictions, predictions
from corrsteer_core.runs.stored_run import features_of, fit_summary
from corrsteer_core.storage.reading import Reader, query
from corrsteer_core.storage.writing import PATIENCE, Writer

DEFAULT_RANKING = "pearson_r"
CANDIDATE = ["layer", "feature", "scale"]
"""What names a candidate."""
KNOWN = ["layer", "feature", "r", "support", "frequency"]
"""What the fit says of a feature, beside what is predicted."""
TRIED_TOGETHER = 96
"""Candidates measured and stored at a time: every group reads the prompts once more, and is what an interruption can lose."""


def rankable_features(run: str, *, ranking: str = DEFAULT_RANKING, negative: bool = False) -> pd.DataFrame:
    """Features that a strategy may choose, the best first. Raises CorrSteerError when there are none."""
    if ranking == PREDICTED:
        return predicted_features(run, negative=negative)
    summary = fit_summary(run)
    if summary["constant"]:
        raise CorrSteerError(
            f"The outcome of {run} is constant (success rate {summary['success_rate']:.0%} on the training samples), so no "
            f"feature correlates with it; choose a task that the model sometimes fails and sometimes solves."
        )
    features = features_of(run)
    if ranking != DEFAULT_RANKING:
        features = features.merge(scores(run, ranking), on=["layer", "feature"])
    signed = "score" if ranking in rankings.BY_CLASS else "r"
    chosen = strategies.rankable(features, int(summary["floor"]), negative=negative, signed=signed)
    if chosen.empty:
        r = "r" if negative else "r above 0"
        raise CorrSteerError(f"No feature of {run} fired in {summary['floor']} training samples with {r}.")
    return chosen


def predicted_features(run: str, *, negative: bool = False) -> pd.DataFrame:
    """Features that are predicted to help, the best first: also those that fired never or always, of which r says nothing.

    With `negative` also those that help when subtracted. Raises CorrSteerError where nothing is predicted, or none helps.
    """
    found = _helpful(run, PREDICTED, negative)
    if found.empty:
        raise CorrSteerError(
            f"No feature of {run} is predicted to help; choose a task that the model sometimes solves."
        )
    return found


def _helpful(run: str, by: str, negative: bool) -> pd.DataFrame:
    """Features whose prediction `by` is above 0, with what the fit says of them, the best first."""
    every = needed_predictions(run).merge(features_of(run)[KNOWN], on=KNOWN[:2], how="left")
    return strategies.helpful(every, negative=negative, by=by)


def listed_for_v(
    run: str,
    ranked: pd.DataFrame,
    *,
    per_layer: int = strategies.PER_LAYER,
    scales: Sequence[float] = strategies.SCALES,
    longest: float = strategies.LONGEST,
    objective: Objective = "rate",
) -> pd.DataFrame:
    """What -V tries: in each layer the `per_layer` first of `ranked` and, where effects are predicted, the best by prediction.

    Of the prediction the part that its objective rewards: the tilt where it chooses by the gain beyond the prior, which no
    shift can raise; else the whole effect.
    """
    predicted = None
    if not predictions(run).empty:
        by = TILT if objective == "beyond_prior" else PREDICTED
        negative = bool((ranked["coefficient"] < 0).any())
        predicted = strategies.within_reach(_helpful(run, by, negative), max(scales), longest, by=by)
    return strategies.candidates(ranked, per_layer, scales, predicted)


def scores(run: str, ranking: str) -> pd.DataFrame:
    """Another ranking of the features, from the cache: layer, feature, score (higher is better)."""
    if ranking == PREDICTED:
        return needed_predictions(run)[["layer", "feature", PREDICTED]].rename(columns={PREDICTED: "score"})
    rank = rankings.RANKINGS.get(ranking)
    if rank is None:
        raise CorrSteerError(f"Unknown ranking {ranking!r}; known are {', '.join([*rankings.RANKINGS, PREDICTED])}.")
    frames = []
    with Reader(run) as store:
        known: list[ArrayLike] = [training_outcomes(store).to_numpy()]
        known += [_needed_classes(store)] if ranking in rankings.BY_CLASS else []
        for layer, d_sae in sae_sizes(store).items():
            score = rank(training_activations(store, layer, d_sae), *known)
            frames.append(pd.DataFrame({"layer": layer, "feature": np.arange(d_sae), "score": score}))
    return pd.concat(frames, ignore_index=True)


def _needed_classes(store: Reader) -> np.ndarray:
    found = training_classes(store)
    if found is None:
        raise CorrSteerError(
            f"The right answers of {store.run} are not of several classes, so nothing can be ranked within a class; use "
            f"another --ranking."
        )
    return found


def try_candidates(
    run: str,
    *,
    per_layer: int = strategies.PER_LAYER,
    scales: Sequence[float] = strategies.SCALES,
    longest: float = strategies.LONGEST,
    features: pd.DataFrame | None = None,
    objective: Objective | None = None,
    setup: Setup | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Steer each candidate of -V alone on the validation split; returns and stores `effects`. Those known are not repeated.

    See `listed_for_v`. Candidates whose vector is longer than the share `longest` of the activation it is added to are
    tried at that length.
    """
    setup = setup or reopen(run)
    ranked = features if features is not None else rankable_features(run)
    aim = objective or default_objective(setup)
    listed = listed_for_v(run, ranked, per_layer=per_layer, scales=scales, longest=longest, objective=aim)
    return tried(setup, strategies.between_lengths(with_shares(setup, listed), longest), progress)


def tried(setup: Setup, wanted: pd.DataFrame, progress: Progress) -> pd.DataFrame:
    """The effects of some candidates, measured where they are not known yet."""
    # Collecting more and fitting again moves the coefficient: then what was tried is another thing.
    same = [*CANDIDATE, "coefficient"]
    known = query(setup.run, "SELECT * FROM effects")
    if default_objective(setup) == "beyond_prior":  # what an older release measured lacks it
        known = known[known["beyond_p"].notna()]
    listed = wanted.merge(known[same].drop_duplicates(), on=same, how="left", indicator="known")
    listed["known"] = listed["known"] == "both"
    for start in range(0, len(listed), TRIED_TOGETHER):
        # Cut before the known ones are left out: who is tried with whom does not depend on where the work was stopped.
        some = listed.iloc[start : start + TRIED_TOGETHER]
        some = some[~some["known"]].drop(columns="known").reset_index(drop=True)
        if len(some):
            done = int((~listed["known"][:start]).sum())
            new = int((~listed["known"]).sum())
            _try(setup, some, part_of(progress, done / new, len(some) / new))
    return _in_order_of(wanted, query(setup.run, "SELECT * FROM effects"))


def _in_order_of(wanted: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """What is stored of some candidates in their own order: that of a table changes when it is copied, and ties with it."""
    return wanted[CANDIDATE].merge(stored, on=CANDIDATE)[list(stored.columns)]


def _try(setup: Setup, some: pd.DataFrame, progress: Progress) -> None:
    """Steer some candidates alone and store what each did."""
    found = steered_alone(setup, some, "trying features one by one", progress)
    with Writer(setup.run, wait=PATIENCE) as store:
        store.add("effects", found)


def with_shares(
    setup: Setup, candidates: pd.DataFrame, streams: Mapping[HookPoint, float] | None = None
) -> pd.DataFrame:
    """Candidates with `share`: length of the vector over the mean length of the activation it is added to.

    `streams` are those lengths where they are known: to measure them reads every prompt once.
    """
    streams = streams or activation_lengths(setup, [sae.point for sae in setup.saes])
    shares = np.zeros(len(candidates))
    for sae in setup.saes:
        here = (candidates["layer"] == sae.layer).to_numpy()
        rows = candidates[here]
        lengths = sae.directions(rows["feature"].tolist()).norm(dim=-1).cpu().numpy()
        shares[here] = lengths * rows["coefficient"].abs() * rows["scale"] / streams[sae.point]
    return candidates.assign(share=shares)


def activation_lengths(setup: Setup, points: Sequence[HookPoint]) -> dict[HookPoint, float]:
    """Mean length of the activations that vectors are added to; not even that is taken from what is held back."""
    known = [item for item in setup.items if item.split != "test"]
    return stream_lengths(setup.model, points, [render(setup.model, item.prompt, setup.config.style) for item in known])


def try_layers(
    features: pd.DataFrame,
    per_layer: int,
    setup: Setup,
    progress: Progress = silent,
    *,
    longest: float = strategies.LONGEST,
) -> pd.DataFrame:
    """Steer each feature of -A alone, at scale 1, on the validation split: what -P prunes by.

    Like V's, a vector longer than the share `longest` of the activation it is added to is tried at that length.
    """
    listed = with_shares(setup, strategies.candidates(features, per_layer, (1.0,)))
    return tried(setup, strategies.between_lengths(listed, longest), progress)


def known_of_layers(run: str, features: pd.DataFrame, per_layer: int, longest: float) -> pd.DataFrame:
    """What `try_layers` stored, without the model."""
    listed = strategies.candidates(features, per_layer, (1.0,))
    stored = query(run, "SELECT * FROM effects")
    shares = (stored["share"] / stored["scale"]).groupby([stored["layer"], stored["feature"]]).max().rename("share")
    listed = listed.merge(shares.reset_index(), on=["layer", "feature"])
    return _in_order_of(strategies.between_lengths(listed, longest), stored)
