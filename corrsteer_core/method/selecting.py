"""Choosing a steering set by a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, part_of, silent
from corrsteer_core.method import strategies
from corrsteer_core.method.candidates import (
    CANDIDATE,
    DEFAULT_RANKING,
    rankable_features,
    try_candidates,
    try_layers,
    validation_outcomes,
)
from corrsteer_core.method.run_setup import Setup, reopen
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.runs.stored_run import keep_set, stored
from corrsteer_core.storage.reading import query

Strategy = Literal["S", "A", "P", "V"]


def select(
    run: str,
    strategy: Strategy,
    *,
    per_layer: int | None = None,
    scales: Sequence[float] = strategies.SCALES,
    longest: float = strategies.LONGEST,
    ranking: str = DEFAULT_RANKING,
    negative: bool = False,
    setup: Setup | None = None,
    progress: Progress = silent,
) -> SteeringSet:
    """Choose a steering set by a strategy, keep it with the run under the strategy's name, and return it.

    `per_layer` is how many features of a layer A and P take (1) and V tries (8). `ranking` names one
    of correlation.RANKINGS. What P and V saw on the validation split is kept in `effects`.
    """
    if per_layer is not None and per_layer < 1:
        raise CorrSteerError(f"{per_layer} features per layer were asked for; ask for at least 1.")
    features = rankable_features(run, ranking=ranking, negative=negative)
    config, _ = stored(run)
    base = SteeringSet(
        config.model,
        config.model_fingerprint,
        config.saes,
        run=run,
        task=config.task,
        style=config.style,
        name=_set_name(strategy, per_layer, ranking, negative, scales, longest),
    )
    if strategy == "S":
        rows = strategies.best_overall(features)
    elif strategy == "A":
        rows = strategies.best_per_layer(features, per_layer or 1)
    elif strategy == "P":
        rows = strategies.pruned(try_layers(run, features, per_layer or 1, setup or reopen(run), progress))
    elif strategy == "V":
        opened = setup or reopen(run)
        found = try_candidates(
            run,
            per_layer=per_layer or strategies.PER_LAYER,
            scales=scales,
            longest=longest,
            features=features,
            setup=opened,
            progress=progress,
        )
        most = max(1, strategies.beyond_noise(found)["layer"].nunique() - 1)
        rounds = (part_of(progress, nth / most, 1 / most) for nth in range(most))
        rows = strategies.grown(
            found, lambda groups: validation_outcomes(opened, base, groups, "adding layers", next(rounds))[:, 1:]
        )
    else:
        raise CorrSteerError(f"Unknown strategy {strategy!r}; known are S, A, P and V.")
    chosen = base.with_rows(rows)
    keep_set(run, chosen, strategy)
    return chosen


def seen_by_p(run: str, per_layer: int = 1, ranking: str = DEFAULT_RANKING, negative: bool = False) -> pd.DataFrame:
    """What -P saw on the validation split, layer by layer, what it kept, and whether that could be noise."""
    features = rankable_features(run, ranking=ranking, negative=negative)
    listed = strategies.candidates(features, per_layer, (1.0,))
    return strategies.seen_by_p(query(run, "SELECT * FROM effects").merge(listed[CANDIDATE], on=CANDIDATE))


def _set_name(
    strategy: Strategy, per_layer: int | None, ranking: str, negative: bool, scales: Sequence[float], longest: float
) -> str:
    parts = [str(strategy)]
    parts += [f"top {per_layer}"] if per_layer and strategy != "S" else []
    parts += [ranking.replace("_", " ")] if ranking != DEFAULT_RANKING else []
    parts += ["with negative"] if negative else []
    if strategy == "V":
        parts += [f"scales {' '.join(f'{one:g}' for one in scales)}"] if tuple(scales) != strategies.SCALES else []
        parts += [f"up to {100 * longest:g}%"] if longest != strategies.LONGEST else []
    return ", ".join(parts)
