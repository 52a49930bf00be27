"""The matched control: the very procedure that chose a set, repeated among random features.

The best of a hundred candidates looks good on the samples that chose it, whatever the candidates are. So a set that was
chosen by steering is compared with what the same choice makes of random features of like frequency in place of those it
tried, the best by r and the best by prediction: as many in each layer, added or subtracted alike, at the same scales, within
the same lengths, on the same validation split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from corrsteer_core.base.progress import Progress, part_of, silent
from corrsteer_core.evaluation.controls import like_frequency
from corrsteer_core.method.candidates import activation_lengths, rankable_features, with_shares
from corrsteer_core.method.run_setup import Setup, reopen
from corrsteer_core.method.validation import default_objective, judged_by, steered_alone, try_groups
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.loading import Model
from corrsteer_core.runs import strategies
from corrsteer_core.runs.against import MATCHED
from corrsteer_core.runs.objectives import Objective
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet
from corrsteer_core.runs.stored_run import features_of, fit_summary, selection_of
from corrsteer_core.runs.strategies import Measure, get_strategy
from corrsteer_core.storage.reading import query
from corrsteer_core.storage.writing import PATIENCE, Writer

Streams = Mapping[HookPoint, float]
"""Mean length of the activations at each hook point; the same for every draw."""
STAGE = "choosing among random features"


class _RandomDesk:
    """A strategy's desk on which random features lie in place of those it tried; nothing is kept but the choice."""

    def __init__(
        self, setup: Setup, base: SteeringSet, about: dict, draw: int, streams: Streams, progress: Progress
    ) -> None:
        self.setup, self.base, self.about, self.progress, self.streams = setup, base, about, progress, streams
        self.per_layer = about["per_layer"]
        self.objective: Objective = about["objective"] or default_objective(setup)
        self.features = rankable_features(setup.run, ranking=about["ranking"], negative=about["negative"])
        self._rng = np.random.default_rng([draw, 1])

    def tried_at_once(self, per_layer: int) -> pd.DataFrame:
        return self._tried(self._listed(per_layer, (1.0,)))

    def tried_at_scales(self, per_layer: int) -> pd.DataFrame:
        return self._tried(self._listed(per_layer, self.about["scales"]))

    def measured(self, rounds: int) -> Measure:
        def measure(groups: Sequence[Sequence[SteeringRow]]) -> np.ndarray:
            return try_groups(self.setup, self.base, groups, STAGE, silent).by(self.objective)[:, 1:]

        return measure

    def _listed(self, per_layer: int, scales: Sequence[float]) -> pd.DataFrame:
        """For each feature that the strategy tried a random one of like frequency, with its own coefficient, at every scale."""
        every = features_of(self.setup.run)
        floor = int(fit_summary(self.setup.run)["floor"])
        open_to = every[(every["support"] >= floor) & (every["coefficient"] > 0)]
        wanted = self._wanted(every, per_layer)
        drawn = like_frequency(wanted, open_to, self._rng)[["layer", "feature", "r", "coefficient", "frequency"]]
        drawn = drawn.assign(coefficient=drawn["coefficient"] * wanted["sign"].to_numpy())
        listed = drawn.merge(pd.DataFrame({"scale": list(scales)}), how="cross")
        return strategies.between_lengths(with_shares(self.setup, listed, self.streams), self.about["longest"])

    def _wanted(self, every: pd.DataFrame, per_layer: int) -> pd.DataFrame:
        """What the strategy tried: layer, feature, frequency (0 for one that never fired), sign of its coefficient."""
        if "listed" in self.about:
            tried = pd.DataFrame(self.about["listed"], columns=["layer", "feature", "sign"])
        else:  # chosen by a release that did not keep them, and tried those of highest r alone
            tried = self.features.groupby("layer", sort=True).head(per_layer)
            tried = tried[["layer", "feature"]].assign(sign=np.sign(tried["coefficient"]))
        known = every[["layer", "feature", "frequency"]]
        return tried.merge(known, on=["layer", "feature"], how="left").fillna({"frequency": 0.0})

    def _tried(self, listed: pd.DataFrame) -> pd.DataFrame:
        return judged_by(steered_alone(self.setup, listed, STAGE, self.progress), self.objective)


def matched_sets(
    steering: SteeringSet,
    *,
    draws: int = MATCHED,
    setup: Setup | None = None,
    model: Model | None = None,
    progress: Progress = silent,
) -> list[SteeringSet]:
    """`draws` sets chosen as this one was, among random features; those drawn before are read from the run.

    A draw in which nothing helps is a set without rows: it does nothing. [] for a set that was not chosen by steering.
    Raises CorrSteerError when the run that the set is from is not cached.
    """
    about = selection_of(steering.run, steering.content) if steering.run else None
    if about is None or not get_strategy(about["strategy"]).by_steering:
        return []
    kept = _kept(steering)
    missing = [draw for draw in range(1, draws + 1) if draw not in kept]
    if missing:
        opened = setup or reopen(steering.run, model)
        streams = activation_lengths(opened, [sae.point for sae in opened.saes])
        for draw in missing:
            part = part_of(progress, (draw - 1) / draws, 1 / draws)
            kept[draw] = _draw(steering, about, draw, opened, streams, part)
    return [kept[draw] for draw in range(1, draws + 1)]


def _draw(
    steering: SteeringSet, about: dict, draw: int, setup: Setup, streams: Streams, progress: Progress
) -> SteeringSet:
    """Choose once, and keep the choice."""
    base = replace(steering, rows=(), name=f"matched {draw}")
    rows = get_strategy(about["strategy"]).choose(_RandomDesk(setup, base, about, draw, streams, progress))
    chosen = base.with_rows(rows)
    row = {"content": steering.content, "draw": draw, "created": pd.Timestamp.now("UTC").tz_localize(None)}
    with Writer(setup.run, wait=PATIENCE) as store:
        store.add("matched", pd.DataFrame([{**row, "body": chosen.to_json()}]))
    return chosen


def _kept(steering: SteeringSet) -> dict[int, SteeringSet]:
    rows = query(steering.run, "SELECT draw, body FROM matched WHERE content = ? ORDER BY draw", [steering.content])
    return {int(row.draw): SteeringSet.from_json(row.body, f"matched set {row.draw}") for row in rows.itertuples()}
