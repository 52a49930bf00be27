"""What a set is measured beside: random features, its sign turned round, its push on words, the same choice made at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress
from corrsteer_core.engine.generation import Vectors
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.evaluation import controls
from corrsteer_core.evaluation.exam import Exam
from corrsteer_core.evaluation.unigram import pushes
from corrsteer_core.models.hooks import LOGITS
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import render
from corrsteer_core.reporting.verdict import UNIGRAM
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.runs.stored_run import features_of
from corrsteer_core.saes.sae import Sae
from corrsteer_core.storage.run_folder import is_cached


@dataclass(frozen=True)
class Rivals:
    """What a set is compared with, by name: what each of them adds to the model."""

    controls: Mapping[str, Vectors] = field(default_factory=dict)
    matched: Mapping[str, Vectors] = field(default_factory=dict)

    @property
    def every(self) -> dict[str, Vectors]:
        """Controls, then matched sets."""
        return {**self.controls, **self.matched}


def rivals_of(
    sets: Sequence[SteeringSet],
    exam: Exam,
    model: Model,
    saes: Sequence[Sae],
    *,
    count: int,
    seed: int,
    matched: Sequence[Sequence[SteeringSet]],
    progress: Progress,
) -> list[Rivals]:
    """The rivals of each set: `count` random sets and the other controls with them (none for 0), and its matched sets.

    The push on words is measured on the exam's validation samples; where it has none, there is no unigram control. Raises
    CorrSteerError for random sets of a set whose run is not cached.
    """
    plain = [
        Rivals(_added(_controls(one, saes, count, seed), saes), _added(_at_scale(matched[place], one.scale), saes))
        if matched
        else Rivals(_added(_controls(one, saes, count, seed), saes))
        for place, one in enumerate(sets)
    ]
    if not exam.validation or not any(rivals.controls for rivals in plain):
        return plain
    prompts = [render(model, item.prompt, exam.style) for item in exam.validation]
    found = pushes(model, prompts, [vectors_of(one, saes) for one in sets], progress)
    return [
        replace(rivals, controls={**rivals.controls, UNIGRAM: {LOGITS: push}}) if rivals.controls else rivals
        for rivals, push in zip(plain, found, strict=True)
    ]


def _added(sets: Sequence[SteeringSet], saes: Sequence[Sae]) -> dict[str, Vectors]:
    return {one.name: vectors_of(one, saes) for one in sets}


def _at_scale(sets: Sequence[SteeringSet], scale: float) -> list[SteeringSet]:
    return [replace(one, scale=scale) for one in sets]


def _controls(steering: SteeringSet, saes: Sequence[Sae], count: int, seed: int) -> list[SteeringSet]:
    if count < 1 or not steering.active_rows:
        return []
    if not (steering.run and is_cached(steering.run)):
        raise CorrSteerError(
            f"Random controls need the frequencies of the run {steering.run or '(none)'}, which is not cached; "
            f"evaluate without controls or collect the run first."
        )
    features = features_of(steering.run)
    return [*controls.random_like(steering, features, saes, count=count, seed=seed), controls.flipped(steering)]
