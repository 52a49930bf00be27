"""Choosing a steering set by a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, part_of, silent
from corrsteer_core.method.candidates import (
    DEFAULT_RANKING,
    known_of_layers,
    rankable_features,
    try_candidates,
    try_layers,
)
from corrsteer_core.method.run_setup import Setup, reopen
from corrsteer_core.method.stability import stability
from corrsteer_core.method.validation import default_objective, judged_by, try_groups
from corrsteer_core.runs import strategies
from corrsteer_core.runs.objectives import Objective
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet
from corrsteer_core.runs.stored_run import empty_set_of, features_of, keep_set, stored
from corrsteer_core.runs.strategies import Measure, get_strategy


@dataclass
class ValidationDesk:
    """A strategy's desk on a run: what it asks for is measured on the validation split and judged by one objective."""

    run: str
    base: SteeringSet
    features: pd.DataFrame
    per_layer: int | None
    scales: Sequence[float]
    longest: float
    objective: Objective | None
    setup: Setup | None
    progress: Progress
    tried: pd.DataFrame = field(default_factory=pd.DataFrame)
    """The effects that were asked for last, judged by the objective."""

    def _opened(self) -> Setup:
        """The run with its model; loaded when a strategy first asks for something."""
        self.setup = self.setup or reopen(self.run)
        self.objective = self.objective or default_objective(self.setup)
        return self.setup

    def _judged(self, effects: pd.DataFrame) -> pd.DataFrame:
        judged = judged_by(effects, self.objective or "rate")
        known = features_of(self.run)[["layer", "feature", "frequency"]]
        self.tried = judged.merge(known, on=["layer", "feature"], how="left").fillna({"frequency": 0.0})  # never fired
        return self.tried

    def tried_at_once(self, per_layer: int) -> pd.DataFrame:
        found = try_layers(self.features, per_layer, self._opened(), self.progress, longest=self.longest)
        return self._judged(found)

    def tried_at_scales(self, per_layer: int) -> pd.DataFrame:
        found = try_candidates(
            self.run,
            per_layer=per_layer,
            scales=self.scales,
            longest=self.longest,
            features=self.features,
            setup=self._opened(),
            objective=self.objective,
            progress=self.progress,
        )
        return self._judged(found)

    def measured(self, rounds: int) -> Measure:
        parts = (part_of(self.progress, nth / rounds, 1 / rounds) for nth in range(rounds))

        def measure(groups: Sequence[Sequence[SteeringRow]]) -> np.ndarray:
            found = try_groups(self._opened(), self.base, groups, "adding layers", next(parts))
            return found.by(self.objective or "rate")[:, 1:]

        return measure


def select(
    run: str,
    strategy: str,
    *,
    per_layer: int | None = None,
    scales: Sequence[float] = strategies.SCALES,
    longest: float = strategies.LONGEST,
    ranking: str = DEFAULT_RANKING,
    negative: bool = False,
    objective: Objective | None = None,
    setup: Setup | None = None,
    progress: Progress = silent,
) -> SteeringSet:
    """Choose a steering set by a strategy, keep it with the run under the strategy's name, and return it.

    `per_layer` is how many features of a layer A and P take (1) and V tries (8). `ranking` names one
    of rankings.RANKINGS. What P and V saw on the validation split is kept in `effects`; they choose by `objective`, the gain
    beyond the prior where the task has classes, else the rate. How surely V's first choice is the best one is kept with it.
    """
    if per_layer is not None and per_layer < 1:
        raise CorrSteerError(f"{per_layer} features per layer were asked for; ask for at least 1.")
    chooser = get_strategy(strategy)
    features = rankable_features(run, ranking=ranking, negative=negative)
    config, _ = stored(run)
    named = _set_name(strategy, per_layer, ranking, negative, scales, longest, objective)
    base = empty_set_of(run, config, name=named)
    desk = ValidationDesk(run, base, features, per_layer, scales, longest, objective, setup, progress)
    chosen = base.with_rows(chooser.choose(desk))
    asked = {"per_layer": per_layer, "scales": list(scales), "longest": longest, "ranking": ranking}
    about: dict[str, Any] = {"strategy": strategy, **asked, "negative": negative, "objective": desk.objective}
    if chooser.by_steering:
        about["listed"] = _listed(desk.tried)
    if chooser.best_of_many:
        about["stability"] = stability(desk.tried)
    keep_set(run, chosen, strategy, selection=about)
    return chosen


def _listed(tried: pd.DataFrame) -> list[list[int]]:
    """The features that were tried: layer, feature, and -1 for one that was subtracted, else 1."""
    once = tried.drop_duplicates(["layer", "feature"])
    signs = np.sign(once["coefficient"]).astype(int)
    return [[int(one) for one in row] for row in zip(once["layer"], once["feature"], signs, strict=True)]


def seen_by_p(
    run: str,
    per_layer: int = 1,
    ranking: str = DEFAULT_RANKING,
    negative: bool = False,
    longest: float = strategies.LONGEST,
    objective: Objective | None = None,
) -> pd.DataFrame:
    """What -P saw on the validation split, layer by layer, what it kept, and whether that could be noise.

    By the objective that it chose by: its own is the gain beyond the prior where that was measured, as `select` has it.
    """
    features = rankable_features(run, ranking=ranking, negative=negative)
    effects = known_of_layers(run, features, per_layer, longest)
    by = objective or ("rate" if effects["beyond_p"].isna().any() else "beyond_prior")
    return strategies.seen_by_p(judged_by(effects, by)).assign(objective=by)


def _set_name(
    strategy: str,
    per_layer: int | None,
    ranking: str,
    negative: bool,
    scales: Sequence[float],
    longest: float,
    objective: Objective | None,
) -> str:
    chooser = get_strategy(strategy)
    parts = [str(strategy)]
    parts += [f"top {per_layer}"] if per_layer and chooser.counts_per_layer else []
    parts += [ranking.replace("_", " ")] if ranking != DEFAULT_RANKING else []
    parts += ["with negative"] if negative else []
    parts += [f"by {objective.replace('_', ' ')}"] if objective else []
    if chooser.best_of_many:
        parts += [f"scales {' '.join(f'{one:g}' for one in scales)}"] if tuple(scales) != strategies.SCALES else []
    if chooser.by_steering:
        parts += [f"up to {100 * longest:g}%"] if longest != strategies.LONGEST else []
    return ", ".join(parts)
