"""Steering sets measured on held-out samples: one set with its controls, one at many scales, many on many tasks.

Everything that is compared is measured on the same samples in one go, as variants of the same
prompts, and kept with the set's run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, part_of, silent
from corrsteer_core.engine.choosing import Choose, greedy
from corrsteer_core.engine.fluency import fluency, mean_fluency
from corrsteer_core.engine.generation import Vectors
from corrsteer_core.engine.steering import check_model, model_of, variant_of
from corrsteer_core.evaluation import near_ties
from corrsteer_core.evaluation.class_view import ClassView, class_view, likely_classes, names_of, tokens_of
from corrsteer_core.evaluation.evaluation import Evaluation
from corrsteer_core.evaluation.exam import Balance, Exam, exam_for
from corrsteer_core.evaluation.kept import keep
from corrsteer_core.evaluation.mirror import Mirror, always_right, mirrored
from corrsteer_core.evaluation.multiple_choice import MEASURING, constrained_comparisons, one_token_choices
from corrsteer_core.evaluation.prior import (
    Offsets,
    class_answers,
    class_columns,
    fit_offsets,
    no_prior,
    prior_of,
)
from corrsteer_core.evaluation.rivals import rivals_of
from corrsteer_core.evaluation.standing import LeftOut
from corrsteer_core.evaluation.trials import Trial, clusters_of, compare, sample_table, trial, unsteered_and
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import render
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.runs.stored_run import selection_of
from corrsteer_core.saes.named_saes import saes_of
from corrsteer_core.saes.sae import Sae
from corrsteer_core.statistics.rival import compare_with_rivals
from corrsteer_core.storage.run_folder import is_cached
from corrsteer_core.tasks import Task

ANSWERING_SHARE = 0.75
"""Of the time of a measurement, roughly; the rest goes into fluency."""
PUSH_SHARE = 0.05
"""Of the time of a measurement with controls, roughly: the push on words is measured first."""
MIRROR_SHARE = 0.1
"""Of the time of a measurement with controls that has a mirror task, roughly."""
CONSTRAINED_SHARE = 0.3
"""Of the time of a measurement that has constrained decoding too, roughly."""


def evaluate_set(
    steering: SteeringSet,
    task: Task,
    *,
    split: str = "test",
    data: Path | None = None,
    scale: float | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    balance: Balance | None = None,
    control_count: int = 0,
    matched: Sequence[SteeringSet] = (),
    seed: int = 0,
    model: Model | None = None,
    saes: Sequence[Sae] | None = None,
    choose: Choose = greedy,
    progress: Progress = silent,
) -> Evaluation:
    """Measure a set on one split of a task against the unsteered model, on the same samples.

    `scale` takes the place of the set's own global scale. Controls (random features of like
    frequency and norm, the sign flipped, its push on words) need the set's run in the cache; multiple choice is
    then answered by constrained decoding too. At a `balance` of classes it is another measurement, kept beside this one.
    """
    model = model or model_of(steering)
    check_model(steering, model)
    saes = saes or saes_of(steering.saes, model)
    steering = steering if scale is None else replace(steering, scale=scale)
    exam = exam_for(
        steering, task, model, split=split, data=data, limit=limit, max_new_tokens=max_new_tokens, balance=balance
    )
    return evaluate_sets(
        [steering],
        exam,
        model,
        saes,
        control_count=control_count,
        matched=[matched],
        seed=seed,
        choose=choose,
        progress=progress,
    )[0]


def evaluate_sets(
    sets: Sequence[SteeringSet],
    exam: Exam,
    model: Model,
    saes: Sequence[Sae],
    *,
    control_count: int = 0,
    matched: Sequence[Sequence[SteeringSet]] = (),
    seed: int = 0,
    choose: Choose = greedy,
    progress: Progress = silent,
) -> list[Evaluation]:
    """Measure several sets, each with its controls, in one go. Returns and keeps an evaluation for each.

    `matched`, one entry a set, are sets chosen as it was among random features (see `method.matched`).
    """
    prepared = PUSH_SHARE * bool(control_count)
    preparing, progress = part_of(progress, 0, prepared, MEASURING), part_of(progress, prepared, 1 - prepared)
    rivals = rivals_of(sets, exam, model, saes, count=control_count, seed=seed, matched=matched, progress=preparing)
    vectors = [variant_of(one, saes) for one in sets] + [added for one in rivals for added in one.every.values()]
    limited_too = bool(control_count) and one_token_choices(exam, model)
    right = always_right(exam) if control_count else None
    share = 1 - CONSTRAINED_SHARE * limited_too - MIRROR_SHARE * bool(right)  # never both: choices are classes
    measured = measured_sets(exam, sets, vectors, model, choose, part_of(progress, 0, share))
    rest, alone = part_of(progress, share, 1 - share), vectors[: len(sets)]
    nothing: list[None] = [None] * len(sets)
    held = constrained_comparisons(exam, measured[0].trial, alone, model, rest) if limited_too else nothing
    own = [one.evaluation.comparison for one in measured]
    mirrors = mirrored(sets, exam, right, own, alone, model, choose, rest) if right else nothing
    results, place, clusters = [], 1 + len(sets), clusters_of(exam.items)
    for nth, (one, found, of_set) in enumerate(zip(sets, measured, rivals, strict=True)):
        compared = {name: compare(found.trial, at) for at, name in enumerate(of_set.every, place)}
        outcomes = {name: found.judged[:, at] for at, name in enumerate(of_set.every, place)}
        place += len(of_set.every)
        against = compare_with_rivals(found.judged[:, 1 + nth], outcomes, clusters=clusters) if outcomes else []
        limited, mirror = held[nth], mirrors[nth]
        against += [limited.beside] if limited else []
        result = replace(
            found.evaluation,
            controls={name: compared[name] for name in of_set.controls},
            matched={name: compared[name] for name in of_set.matched},
            constrained=limited.compared if limited else {},
            against={one.rival: one for one in against},
            frequencies=dict(of_set.frequencies),
            mirror=mirror if isinstance(mirror, Mirror) else None,
            left_out=(*found.evaluation.left_out, *of_set.left_out, *_left_out(mirror)),
        )
        keep(one, result)
        results.append(result)
    return results


def _left_out(mirror: Mirror | LeftOut | None) -> tuple[LeftOut, ...]:
    return (mirror,) if isinstance(mirror, LeftOut) else ()


def sweep(
    steering: SteeringSet,
    tasks: Sequence[Task],
    scales: Sequence[float],
    *,
    split: str = "test",
    limit: int | None = None,
    model: Model | None = None,
    saes: Sequence[Sae] | None = None,
    progress: Progress = silent,
) -> list[Evaluation]:
    """One set at several scales on one task or more: what is won on the one and lost on the others.

    Returns (and keeps) an evaluation for every task and scale, in that order.
    """
    if not scales:
        raise CorrSteerError("A sweep needs at least one scale.")
    model = model or model_of(steering)
    check_model(steering, model)
    saes = saes or saes_of(steering.saes, model)
    sets = [replace(steering, scale=scale) for scale in scales]
    results = []
    for place, task in enumerate(tasks):
        exam = exam_for(steering, task, model, split=split, limit=limit)
        of_task = part_of(progress, place / len(tasks), 1 / len(tasks))
        results += evaluate_sets(sets, exam, model, saes, progress=of_task)
    return results


def transfer(
    sets: Sequence[SteeringSet],
    tasks: Sequence[Task],
    *,
    split: str = "test",
    limit: int | None = None,
    model: Model | None = None,
    progress: Progress = silent,
) -> list[Evaluation]:
    """Every set on every task. Returns (and keeps) an evaluation for each pair, task by task in the sets' order.

    The sets must be of one model. A set is measured with the prompt it was fitted with on its own
    task, and with the task's own prompt on any other; the unsteered texts of both are then different.
    """
    if not sets or not tasks:
        raise CorrSteerError("A transfer matrix needs at least one steering set and one task.")
    model = model or model_of(sets[0])
    for one in sets:
        check_model(one, model)
    saes = [saes_of(one.saes, model) for one in sets]
    results, share = [], 1 / len(tasks) / len(sets)
    for nth, task in enumerate(tasks):
        exams = [exam_for(one, task, model, split=split, limit=limit) for one in sets]
        done = nth * len(sets)
        of_task: dict[int, Evaluation] = {}
        for exam, places in _alike(exams):
            some = [sets[place] for place in places]
            vectors = [variant_of(sets[place], saes[place]) for place in places]
            part = part_of(progress, done * share, len(some) * share)
            done += len(some)
            for place, found in zip(places, measured_sets(exam, some, vectors, model, greedy, part), strict=True):
                keep(sets[place], found.evaluation)
                of_task[place] = found.evaluation
        results += [of_task[place] for place in range(len(sets))]
    return results


def _alike(exams: Sequence[Exam]) -> list[tuple[Exam, list[int]]]:
    """Each different exam with the places it stands at: other items or another scorer are another exam."""
    groups: list[tuple[Exam, list[int]]] = []
    for place, exam in enumerate(exams):
        same = next((places for other, places in groups if other == exam), None)
        if same is None:
            groups.append((exam, [place]))
        else:
            same.append(place)
    return groups


@dataclass(frozen=True)
class Measured:
    """A set's evaluation with the trial that it comes from."""

    evaluation: Evaluation
    trial: Trial
    judged: np.ndarray
    """(samples, variants): the outcomes that variants are compared by, with their offsets where the task has classes."""


def measured_sets(
    exam: Exam,
    sets: Sequence[SteeringSet],
    vectors: Sequence[Vectors],
    model: Model,
    choose: Choose,
    progress: Progress,
) -> list[Measured]:
    """An evaluation for each set. `vectors` are the sets', then those of whatever else belongs to the trial."""
    variants = unsteered_and(*vectors)
    found = trial(
        model,
        exam.items,
        variants,
        style=exam.style,
        scorer=exam.task.scorer,
        max_new_tokens=exam.max_new_tokens,
        choose=choose,
        classes=tokens_of(model, exam.task, exam.items, exam.validation),
        progress=part_of(progress, 0, ANSWERING_SHARE, MEASURING),
    )
    seen = _with_offsets(exam, found, variants, model) if found.class_logp else None
    scoring = part_of(progress, ANSWERING_SHARE, 1 - ANSWERING_SHARE, MEASURING)
    nll = _fluency(exam, found, 1 + len(sets), model, scoring)
    judged = found.outcomes if seen is None else seen[1].right

    def evaluation(place: int, one: SteeringSet) -> Evaluation:
        return Evaluation(
            name=one.name,
            content=one.content,
            task=exam.name,
            split=exam.split,
            scale=one.scale,
            comparison=compare(found, place),
            fluency_unsteered=nll[0],
            fluency_steered=nll[place],
            samples=sample_table(found, exam.items, place).assign(
                **(class_columns(exam, found, place, *seen) if seen else {})
            ),
            prior=prior_of(exam, found, place, *seen) if seen else None,
            answers=class_answers(exam, found, place),
            near_ties=_near_ties(found, place, model.arithmetic, seen),
            left_out=() if seen else no_prior(exam),
            chosen_on=exam.chosen_on,
            strategy=_strategy_of(one),
            dtype=model.arithmetic,
            asked=exam.asked(),
        )

    return [Measured(evaluation(place, one), found, judged) for place, one in enumerate(sets, 1)]


def _fluency(exam: Exam, found: Trial, count: int, model: Model, progress: Progress) -> list[float | None]:
    """Of the first `count` variants, each over all its texts."""
    prompts = [render(model, item.prompt, exam.style) for item in exam.items]
    return mean_fluency(fluency(model, prompts, [row[:count] for row in found.tokens], progress=progress))


def _near_ties(
    found: Trial, place: int, dtype: str, seen: tuple[ClassView, Offsets] | None
) -> near_ties.NearTies | None:
    """What nearly tied answers could do to what a variant's verdict rests on: the rate and, with classes, what is beyond it."""
    if found.leads is None:
        return None
    two, clusters = [0, place], clusters_of(found.items)
    raw = near_ties.near_ties(found.outcomes[:, 0], found.outcomes[:, place], found.leads[:, two], dtype, clusters)
    if seen is None or raw.could_turn:
        return raw
    offsets = seen[1]
    close = offsets.leads[:, two] < raw.bound
    turned = near_ties.could_turn(offsets.right[:, 0], offsets.right[:, place], close, clusters)
    return replace(raw, could_turn=turned)


def _with_offsets(
    exam: Exam, found: Trial, variants: Sequence[Vectors], model: Model
) -> tuple[ClassView, Offsets] | None:
    """The trial seen as classes, each variant with its offset; None where there is nothing to fit offsets on."""
    items = list(exam.validation)
    if not tokens_of(model, exam.task, items):
        return None
    names = names_of(exam.task, (*exam.items, *items))
    view = class_view(exam.task, exam.items, found.class_logp, names)
    return view, fit_offsets(likely_classes(model, exam.task, items, variants, exam.style, names), view)


def _strategy_of(steering: SteeringSet) -> str:
    about = selection_of(steering.run, steering.content) if steering.run and is_cached(steering.run) else None
    return about["strategy"] if about else ""
