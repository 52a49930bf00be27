"""A baseline without SAE: the raw difference of activations between right and wrong answers, added back.

Contrastive activation addition (Rimsky et al., arXiv 2312.06681) at the hook points of the run's SAEs,
with the outcome of the model's own answers as the contrast. It is tried and measured as -V's first step is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, part_of, silent
from corrsteer_core.engine.batches import plan
from corrsteer_core.engine.fluency import fluency, mean_fluency
from corrsteer_core.engine.generation import Vectors, decode, prefill
from corrsteer_core.evaluation.trials import Trial, compare, trial, unsteered_and
from corrsteer_core.method.candidates import activation_lengths
from corrsteer_core.method.run_setup import Setup
from corrsteer_core.models.hooks import Action, HookPoint, Site
from corrsteer_core.models.limits import prompts_that_fit
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import render
from corrsteer_core.runs import strategies
from corrsteer_core.statistics.best_of_many import corrected_p
from corrsteer_core.statistics.rates import NOISE
from corrsteer_core.storage.reading import query
from corrsteer_core.tasks import Item

SCALES = (0.5, *strategies.SCALES)
AVERAGING_SHARE = 0.2
"""Of the time it takes to choose a difference vector, roughly; the rest goes into trying them."""


class _Means:
    """A `Watch` that adds up each row's activations over its generation positions."""

    def __init__(self, model: Model, points: Sequence[HookPoint], n_rows: int) -> None:
        self.model = model
        self.sums = {point: torch.zeros(n_rows, model.width(point.kind)) for point in points}
        self.counts = torch.zeros(n_rows)

    def prompt_actions(self, mask: Tensor) -> dict[Site, Action]:
        return {}

    def step_actions(self, rows: Tensor, alive: Tensor) -> dict[Site, Action]:
        places, living = rows.cpu(), alive.cpu()
        self.counts[places] += living

        def adding(point: HookPoint) -> Action:
            def look(activation: Tensor) -> None:
                self.sums[point][places] += activation[:, -1].float().cpu() * living[:, None]

            return look

        return {self.model.site(point): adding(point) for point in self.sums}

    def step_done(self) -> None:
        pass

    def means(self, point: HookPoint) -> Tensor:
        return self.sums[point] / self.counts.clamp_min(1)[:, None]


def difference_vectors(
    model: Model,
    points: Sequence[HookPoint],
    prompts: Sequence[Sequence[int]],
    outcomes: np.ndarray,
    max_new_tokens: int,
    progress: Progress = silent,
) -> dict[HookPoint, Tensor]:
    """Per hook point, mean activation over answers with outcome above 0.5 minus that over the others, (d,) float32.

    A prompt's activation is the mean over its generation positions, while the model answers greedily.
    Raises CorrSteerError when all outcomes are on one side.
    """
    right = torch.tensor(outcomes > 0.5)
    if right.all() or not right.any():
        raise CorrSteerError("All outcomes are on one side, so there is no difference to take; choose another task.")
    means = {point: torch.zeros(len(prompts), model.width(point.kind)) for point in points}
    done = 0
    for batch in plan(prompts, prompts_that_fit(model, prompts, max_new_tokens)):
        watch = _Means(model, points, len(batch))
        prefix = prefill(model, [prompts[place] for place in batch])
        for _step in decode(model, prefix, max_new_tokens=max_new_tokens, watch=watch):
            pass
        for point in points:
            means[point][batch] = watch.means(point)
        done += len(batch)
        progress("averaging activations of right and wrong answers", done, len(prompts))
    return {point: mean[right].mean(0) - mean[~right].mean(0) for point, mean in means.items()}


def baseline(
    setup: Setup, *, split: str = "test", longest: float = strategies.LONGEST, progress: Progress = silent
) -> dict[str, Any]:
    """The best difference vector on the validation split, measured on another split.

    Returns `tried` (layer, scale, share, rates, flips, p on validation), `chosen` (layer and scale, or None
    when none is beyond noise) and `measured` (the fields of a Comparison, effect and fluency, or None).
    """
    vectors, tried, best = _chosen(setup, longest, progress)
    if best.empty:
        return {"tried": tried, "chosen": None, "measured": None}
    measured = _try(setup, [item for item in setup.items if item.split == split], best, vectors, "measuring", progress)
    row = best.iloc[0]
    chosen = {"layer": int(row["layer"]), "scale": float(row["scale"]), "share": float(row["share"])}
    return {"tried": tried, "chosen": chosen, "measured": _summary(setup, measured, progress)}


def chosen_difference(setup: Setup, *, progress: Progress = silent) -> Vectors | None:
    """What the baseline adds to the model; None when no difference vector is beyond noise on the validation split."""
    vectors, _, best = _chosen(setup, strategies.LONGEST, progress)
    return None if best.empty else _scaled(best, vectors)[0]


def _chosen(
    setup: Setup, longest: float, progress: Progress
) -> tuple[dict[HookPoint, Tensor], pd.DataFrame, pd.DataFrame]:
    """The difference vectors, what was tried of them on the validation split, and the best of it (one row, or none)."""
    averaging, trying = part_of(progress, 0, AVERAGING_SHARE), part_of(progress, AVERAGING_SHARE, 1 - AVERAGING_SHARE)
    vectors = difference_vectors(setup.model, *_training(setup), setup.config.max_new_tokens, averaging)
    listed = strategies.between_lengths(_candidates(setup, vectors), longest)
    items = [item for item in setup.items if item.split == "validation"]
    found = _try(setup, items, listed, vectors, "trying difference vectors", trying)
    tried = strategies.effects(listed, found.outcomes[:, 0], found.outcomes[:, 1:])
    sure = corrected_p(found.outcomes[:, 0], found.outcomes[:, 1:]) < NOISE  # as V asks it of its candidates
    return vectors, tried, strategies.beyond_noise(tried[sure].assign(r=0.0)).head(1)


def _summary(setup: Setup, measured: Trial, progress: Progress) -> dict[str, Any]:
    prompts = [render(setup.model, item.prompt, setup.config.style) for item in measured.items]
    unsteered, steered = mean_fluency(fluency(setup.model, prompts, measured.tokens, progress=progress))
    result = compare(measured, 1)
    return {**asdict(result), "effect": result.effect, "fluency": {"unsteered": unsteered, "steered": steered}}


def _training(setup: Setup) -> tuple[list[HookPoint], list[list[int]], np.ndarray]:
    rows = query(setup.run, "SELECT sample, outcome FROM samples WHERE split = 'train' AND outcome IS NOT NULL")
    outcomes = dict(zip(rows["sample"], rows["outcome"], strict=True))
    items = [item for item in setup.items if item.id in outcomes]
    prompts = [render(setup.model, item.prompt, setup.config.style) for item in items]
    return [sae.point for sae in setup.saes], prompts, np.array([outcomes[item.id] for item in items])


def _candidates(setup: Setup, vectors: dict[HookPoint, Tensor]) -> pd.DataFrame:
    """Layer, scale and share (of the activation's length) of every vector at every scale."""
    streams = activation_lengths(setup, list(vectors))
    rows = [
        {"layer": point.layer, "scale": scale, "share": scale * float(vector.norm()) / streams[point]}
        for point, vector in vectors.items()
        for scale in SCALES
    ]
    return pd.DataFrame(rows)


def _scaled(listed: pd.DataFrame, vectors: dict[HookPoint, Tensor]) -> list[Vectors]:
    """What each row of layer and scale adds."""
    by_layer = {point.layer: (point, vector) for point, vector in vectors.items()}
    rows = [(by_layer[int(row.layer)], float(row.scale)) for row in listed.itertuples()]
    return [{point: scale * vector} for (point, vector), scale in rows]


def _try(
    setup: Setup,
    items: Sequence[Item],
    listed: pd.DataFrame,
    vectors: dict[HookPoint, Tensor],
    stage: str,
    progress: Progress,
) -> Trial:
    return trial(
        setup.model,
        items,
        unsteered_and(*_scaled(listed, vectors)),
        style=setup.config.style,
        scorer=setup.task.scorer,
        max_new_tokens=setup.config.max_new_tokens,
        stage=stage,
        progress=progress,
    )
