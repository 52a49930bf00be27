"""What a set is measured beside: random features, its sign turned round, its push on words, the same choice made at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress
from corrsteer_core.engine.generation import Vectors
from corrsteer_core.engine.steering import variant_of
from corrsteer_core.evaluation import controls
from corrsteer_core.evaluation.exam import Exam
from corrsteer_core.evaluation.standing import LeftOut
from corrsteer_core.evaluation.unigram import pushes
from corrsteer_core.models.hooks import LOGITS
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import render
from corrsteer_core.reporting.rate_rows import UNIGRAM
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.runs.stored_run import features_of, fit_summary
from corrsteer_core.saes.sae import Sae
from corrsteer_core.storage.run_folder import is_cached

NO_PUSH = LeftOut(UNIGRAM, "There are no validation samples to measure its push on words on.")


@dataclass(frozen=True)
class Rivals:
    """What a set is compared with, by name: what each of them adds to the model."""

    controls: Mapping[str, Vectors] = field(default_factory=dict)
    matched: Mapping[str, Vectors] = field(default_factory=dict)
    frequencies: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """How often the features of each fire, and under "" the set's own; see `controls.frequencies`."""
    left_out: tuple[LeftOut, ...] = ()
    """Controls that there cannot be of such a set, and why."""

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

    The push on words is measured on the exam's validation samples; where it has none, there is no unigram control (which is
    said), nor for a set of which something acts from a later token on. A set that does not just add has no sign to turn round. Raises
    CorrSteerError for random sets of a set whose run is not cached.
    """
    plain = [
        _plain(one, _controls(one, saes, count, seed), matched[place] if matched else (), saes)
        for place, one in enumerate(sets)
    ]
    if not any(rivals.controls for rivals in plain):
        return plain
    if not exam.validation:
        return [
            replace(rivals, left_out=(*rivals.left_out, NO_PUSH)) if rivals.controls else rivals for rivals in plain
        ]
    prompts = [render(model, item.prompt, exam.style) for item in exam.validation]
    found = pushes(model, prompts, [variant_of(one, saes) for one in sets], progress)
    return [
        _with_push(rivals, one, push) if rivals.controls else rivals
        for one, rivals, push in zip(sets, plain, found, strict=True)
    ]


def _with_push(rivals: Rivals, steering: SteeringSet, push: Tensor) -> Rivals:
    """With the set's push on words, which is measured where the first token is chosen: what acts later is not in it."""
    late = next((row for row in steering.active_rows if row.from_token), None)
    if late is None:
        return replace(rivals, controls={**rivals.controls, UNIGRAM: {LOGITS: push}})
    why = f"Feature {late.feature} of layer {late.layer} acts only from generated token {late.from_token} on."
    return replace(rivals, left_out=(*rivals.left_out, LeftOut(UNIGRAM, why)))


def _plain(
    steering: SteeringSet, random: Sequence[SteeringSet], matched: Sequence[SteeringSet], saes: Sequence[Sae]
) -> Rivals:
    """Those that are sets of features."""
    others = [*random, *_at_scale(matched, steering.scale)]
    if not others:
        return Rivals()
    features = features_of(steering.run)
    often = {one.name: controls.frequencies(one, features) for one in (replace(steering, name=""), *others)}
    return Rivals(_added(random, saes), _added(others[len(random) :], saes), often, _no_sign(steering, random))


def _no_sign(steering: SteeringSet, random: Sequence[SteeringSet]) -> tuple[LeftOut, ...]:
    """That there is no set with the sign turned round, where there are controls."""
    row = steering.other_than_adding
    if not random or row is None:
        return ()
    why = f"The row for feature {row.feature} of layer {row.layer} does not add, so it has no sign ({row.does})."
    return (LeftOut(controls.FLIPPED, why),)


def _added(sets: Sequence[SteeringSet], saes: Sequence[Sae]) -> dict[str, Vectors]:
    return {one.name: variant_of(one, saes) for one in sets}


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
    features, floor = features_of(steering.run), int(fit_summary(steering.run)["floor"])
    random = controls.random_like(steering, features, saes, count=count, floor=floor, seed=seed)
    return random if steering.other_than_adding else [*random, controls.flipped(steering)]
