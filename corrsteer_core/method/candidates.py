"""What may be chosen, and what each candidate does when it is steered alone on the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, part_of, silent
from corrsteer_core.correlation import rankings
from corrsteer_core.engine.activation_lengths import stream_lengths
from corrsteer_core.method.run_setup import Setup, reopen
from corrsteer_core.method.validation import default_objective, steered_alone
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.prompts import render
from corrsteer_core.runs import strategies
from corrsteer_core.runs.fit import sae_sizes, training_activations, training_outcomes
from corrsteer_core.runs.predictions import PREDICTED, needed_predictions, predictions
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
    chosen = strategies.rankable(features, int(summary["floor"]), negative=negative)
    if chosen.empty:
        r = "r" if negative else "r above 0"
        raise CorrSteerError(f"No feature of {run} fired in {summary['floor']} training samples with {r}.")
    return chosen


def predicted_features(run: str, *, negative: bool = False) -> pd.DataFrame:
    """Features that are predicted to help, the best first: also those that fired never or always, of which r says nothing.

    With `negative` also those that help when subtracted. Raises CorrSteerError where nothing is predicted, or none helps.
    """
    predicted = needed_predictions(run)
    found = strategies.helpful(predicted.merge(features_of(run)[KNOWN], on=KNOWN[:2], how="left"), negative=negative)
    if found.empty:
        raise CorrSteerError(
            f"No feature of {run} is predicted to help; choose a task that the model sometimes solves."
        )
    return found


def scores(run: str, ranking: str) -> pd.DataFrame:
    """Another ranking of the features, from the cache: layer, feature, score (higher is better)."""
    if ranking == PREDICTED:
        return needed_predictions(run)[["layer", "feature", PREDICTED]].rename(columns={PREDICTED: "score"})
    rank = rankings.RANKINGS.get(ranking)
    if rank is None:
        raise CorrSteerError(f"Unknown ranking {ranking!r}; known are {', '.join([*rankings.RANKINGS, PREDICTED])}.")
    frames = []
    with Reader(run) as store:
        y = training_outcomes(store).to_numpy()
        for layer, d_sae in sae_sizes(store).items():
            score = rank(training_activations(store, layer, d_sae), y)
            frames.append(pd.DataFrame({"layer": layer, "feature": np.arange(d_sae), "score": score}))
    return pd.concat(frames, ignore_index=True)


def try_candidates(
    run: str,
    *,
    per_layer: int = strategies.PER_LAYER,
    scales: Sequence[float] = strategies.SCALES,
    longest: float = strategies.LONGEST,
    features: pd.DataFrame | None = None,
    setup: Setup | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Steer each candidate of -V alone on the validation split; returns and stores `effects`. Those known are not repeated.

    Where effects are predicted, the best by prediction are tried beside the best by r. Candidates whose vector is longer
    than the share `longest` of the activation it is added to are tried at that length.
    """
    setup = setup or reopen(run)
    ranked = features if features is not None else rankable_features(run)
    predicted = None
    if not predictions(run).empty:
        negative = bool((ranked["coefficient"] < 0).any())
        predicted = strategies.within_reach(predicted_features(run, negative=negative), max(scales), longest)
    listed = strategies.candidates(ranked, per_layer, scales, predicted)
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
    return query(setup.run, "SELECT * FROM effects").merge(wanted[CANDIDATE], on=CANDIDATE)


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
    run: str, features: pd.DataFrame, per_layer: int, setup: Setup, progress: Progress = silent
) -> pd.DataFrame:
    """Steer each feature of -A alone, at scale 1, on the validation split: what -P prunes by."""
    listed = strategies.candidates(features, per_layer, (1.0,))
    return tried(setup, with_shares(setup, listed), progress)
