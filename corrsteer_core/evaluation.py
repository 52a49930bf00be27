"""Steering sets measured on held-out samples: one set with its controls, one at many scales, many on many tasks.

Everything that is compared is measured on the same samples in one go, as variants of the same
prompts, and kept with the set's run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from corrsteer_core import controls
from corrsteer_core.config import RunConfig
from corrsteer_core.errors import CorrSteerError
from corrsteer_core.evaluate import Comparison, Trial, compare, fluency, trial, unsteered_and
from corrsteer_core.generation import Choose, Vectors, constrained, greedy
from corrsteer_core.models import Model, load_model
from corrsteer_core.pipeline import features_of, saes_of, stored
from corrsteer_core.progress import Progress, silent
from corrsteer_core.prompts import PromptStyle, render, resolve_style
from corrsteer_core.saes import Sae
from corrsteer_core.steering import SteeringSet
from corrsteer_core.store import Writer, is_cached
from corrsteer_core.tasks import Item, Task, load_items, with_judge, without_shots

CONSTRAINED = "constrained"
CONSTRAINED_STEERED = "constrained and steered"


@dataclass(frozen=True)
class Evaluation:
    """A set measured on a split, with what it is compared with."""

    name: str
    """Of the set."""
    task: str
    split: str
    scale: float
    comparison: Comparison
    fluency_unsteered: float
    """Mean over the texts of the mean negative log-likelihood per token, nats."""
    fluency_steered: float
    samples: pd.DataFrame = field(repr=False)
    """sample, prompt, target, unsteered, steered, outcome_unsteered, outcome_steered."""
    controls: dict[str, Comparison] = field(default_factory=dict)
    """Random sets of like size, and the sign flipped, against the same unsteered texts."""
    constrained: dict[str, Comparison] = field(default_factory=dict)
    """Multiple choice only: the best of the choices' tokens taken, unsteered and steered, against the same texts."""

    def summary(self) -> dict:
        """The numbers, ready for JSON."""

        def rivals(found: dict[str, Comparison]) -> dict:
            return {name: {**asdict(one), "effect": one.effect} for name, one in found.items()}

        return {
            "set": self.name,
            "task": self.task,
            "split": self.split,
            "scale": self.scale,
            **asdict(self.comparison),
            "effect": self.comparison.effect,
            "fluency": {"unsteered": _number(self.fluency_unsteered), "steered": _number(self.fluency_steered)},
            "controls": rivals(self.controls),
            "constrained": rivals(self.constrained),
        }


@dataclass(frozen=True)
class Exam:
    """What sets are measured on: items of one task, put to the model in one way."""

    task: Task
    split: str
    items: list[Item]
    style: PromptStyle
    max_new_tokens: int


def evaluate_set(
    steering: SteeringSet,
    task: Task,
    *,
    split: str = "test",
    data: Path | None = None,
    scale: float | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    control_count: int = 0,
    seed: int = 0,
    model: Model | None = None,
    saes: Sequence[Sae] | None = None,
    choose: Choose = greedy,
    progress: Progress = silent,
) -> Evaluation:
    """Measure a set on one split of a task against the unsteered model, on the same samples.

    `scale` takes the place of the set's own global scale. Controls (random features of like
    frequency and norm, and the sign flipped) need the set's run in the cache; multiple choice is
    then answered by constrained decoding too.
    """
    model = model or load_model(steering.model)
    steering.check_model(model)
    saes = saes or saes_of(steering.saes, model)
    steering = steering if scale is None else replace(steering, scale=scale)
    exam = exam_for(steering, task, model, split=split, data=data, limit=limit, max_new_tokens=max_new_tokens)
    return evaluate_sets(
        [steering], exam, model, saes, control_count=control_count, seed=seed, choose=choose, progress=progress
    )[0]


def evaluate_sets(
    sets: Sequence[SteeringSet],
    exam: Exam,
    model: Model,
    saes: Sequence[Sae],
    *,
    control_count: int = 0,
    seed: int = 0,
    choose: Choose = greedy,
    progress: Progress = silent,
) -> list[Evaluation]:
    """Measure several sets, each with its controls, in one go. Returns and keeps an evaluation for each."""
    rivals = [_controls(one, saes, control_count, seed) for one in sets]
    vectors = [one.vectors(saes) for one in (*sets, *(rival for of_set in rivals for rival in of_set))]
    measured = _measured(exam, sets, vectors, model, choose, progress)
    own = vectors[: len(sets)]
    held = _constrained(exam, measured[0].trial, own, model, progress) if control_count else [{} for _ in sets]
    results, place = [], 1 + len(sets)
    for one, found, of_set, constrained_too in zip(sets, measured, rivals, held, strict=True):
        places = range(place, place + len(of_set))
        place += len(of_set)
        result = replace(
            found.evaluation,
            controls={rival.name: compare(found.trial, at) for rival, at in zip(of_set, places, strict=True)},
            constrained=constrained_too,
        )
        _keep(one, result)
        results.append(result)
    return results


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
    model = model or load_model(steering.model)
    steering.check_model(model)
    saes = saes or saes_of(steering.saes, model)
    sets = [replace(steering, scale=scale) for scale in scales]
    results = []
    for task in tasks:
        exam = exam_for(steering, task, model, split=split, limit=limit)
        results += evaluate_sets(sets, exam, model, saes, progress=progress)
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
    """Every set on every task, task by task. Returns (and keeps) an evaluation for each pair.

    The sets must be of one model. A set is measured with the prompt it was fitted with on its own
    task, and with the task's own prompt on any other; the unsteered texts of both are then different.
    """
    if not sets:
        raise CorrSteerError("A transfer matrix needs at least one steering set.")
    model = model or load_model(sets[0].model)
    for one in sets:
        one.check_model(model)
    saes = [saes_of(one.saes, model) for one in sets]
    results = []
    for task in tasks:
        exams = [exam_for(one, task, model, split=split, limit=limit) for one in sets]
        by_style: dict[tuple[PromptStyle, int], list[int]] = {}
        for place, exam in enumerate(exams):
            by_style.setdefault((exam.style, exam.max_new_tokens), []).append(place)
        for places in by_style.values():
            some = [sets[place] for place in places]
            vectors = [sets[place].vectors(saes[place]) for place in places]
            for one, found in zip(
                some, _measured(exams[places[0]], some, vectors, model, greedy, progress), strict=True
            ):
                _keep(one, found.evaluation)
                results.append(found.evaluation)
    return results


# --- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    evaluation: Evaluation
    trial: Trial


def _measured(
    exam: Exam,
    sets: Sequence[SteeringSet],
    vectors: Sequence[Vectors],
    model: Model,
    choose: Choose,
    progress: Progress,
) -> list[_Found]:
    """An evaluation for each set. `vectors` are the sets', then those of whatever else belongs to the trial."""
    found = trial(
        model,
        exam.items,
        unsteered_and(*vectors),
        style=exam.style,
        scorer=exam.task.scorer,
        max_new_tokens=exam.max_new_tokens,
        choose=choose,
        progress=progress,
    )
    prompts = [render(model, item.prompt, exam.style) for item in exam.items]
    nll = fluency(model, prompts, [row[: 1 + len(sets)] for row in found.tokens], progress=progress)
    return [
        _Found(
            Evaluation(
                name=one.name,
                task=exam.task.name,
                split=exam.split,
                scale=one.scale,
                comparison=compare(found, place),
                fluency_unsteered=_mean(nll[:, 0]),
                fluency_steered=_mean(nll[:, place]),
                samples=_sample_table(found, exam.items, place),
            ),
            found,
        )
        for place, one in enumerate(sets, 1)
    ]


def _constrained(
    exam: Exam, free: Trial, vectors: Sequence[Vectors], model: Model, progress: Progress
) -> list[dict[str, Comparison]]:
    """For each set, constrained decoding unsteered and steered against the free unsteered texts.

    {} for each unless all is multiple choice.
    """
    if not all(item.choices for item in exam.items):
        return [{} for _ in vectors]
    outcomes = np.zeros((len(exam.items), 2 + len(vectors)))
    texts: list[list[str]] = [[] for _ in exam.items]
    for choices, places in _by_choices(exam.items):
        found = trial(
            model,
            [exam.items[place] for place in places],
            unsteered_and(*vectors),
            style=exam.style,
            scorer=exam.task.scorer,
            max_new_tokens=1,
            choose=constrained(choice_tokens(model, choices)),
            stage="measuring with constrained decoding",
            progress=progress,
        )
        for place, row, of_item in zip(places, found.texts, found.outcomes, strict=True):
            texts[place] = [free.texts[place][0], *row]
            outcomes[place] = [free.outcomes[place, 0], *of_item]
    whole = Trial(tuple(exam.items), texts, [], outcomes)
    return [
        {CONSTRAINED: compare(whole, 1), CONSTRAINED_STEERED: compare(whole, 2 + place)}
        for place in range(len(vectors))
    ]


def choice_tokens(model: Model, choices: Sequence[str]) -> list[int]:
    """Tokens that each choice begins with, after a space and without one; words in lower case too, as scorers take them."""
    spelled = [*choices, *(choice.lower() for choice in choices if len(choice) > 1)]
    written = [form for choice in spelled for form in (choice, f" {choice}")]
    return sorted({model.tokenizer.encode(form, add_special_tokens=False)[0] for form in written})


def _by_choices(items: Sequence[Item]) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(item.choices, []).append(place)
    yield from groups.items()


# --- what is measured, and with what -------------------------------------------------------------


def exam_for(
    steering: SteeringSet,
    task: Task,
    model: Model,
    *,
    split: str,
    data: Path | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
) -> Exam:
    """What a set is measured on; its own task is scored as when it was fitted. Raises CorrSteerError for an empty split."""
    fitted = _fitted_on(steering, task)
    if fitted and fitted.judge:
        task = with_judge(task, fitted.judge)
    data = data or (Path(fitted.data) if fitted and fitted.data else None)
    # The prompt of fitting for the task the set was fitted on; every other task has its own.
    style = steering.style if steering.task == task.name else resolve_style(model, chat=None, task_chat=task.chat)
    items = _split_items(task, split, data, limit, fitted.seed if fitted else 0, style.shots)
    tokens = max_new_tokens or (fitted.max_new_tokens if fitted else task.max_new_tokens)
    return Exam(task, split, items, style, tokens)


def _split_items(
    task: Task, split: str, data: Path | None, limit: int | None, seed: int, shots: Sequence[tuple[str, str]]
) -> list[Item]:
    every = without_shots(load_items(task, data=data, seed=seed), shots)
    items = [item for item in every if item.split == split]
    if not items:
        have = ", ".join(sorted({item.split for item in every}))
        raise CorrSteerError(
            f"The task {task.name} has no {split} items{f' in {data}' if data else ''}; it has {have}."
        )
    return items[:limit] if limit else items


def _fitted_on(steering: SteeringSet, task: Task) -> RunConfig | None:
    """Configuration of the set's run if it was fitted on this very task: its split, file and length then hold."""
    if steering.task == task.name and steering.run and is_cached(steering.run):
        return stored(steering.run)[0]
    return None


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


# --- what is kept --------------------------------------------------------------------------------


def _keep(steering: SteeringSet, result: Evaluation) -> None:
    """Keep an evaluation with the set's run, unless it has one on more samples; controls measured before stay."""
    if not (steering.run and steering.name and is_cached(steering.run)):
        return
    summary = result.summary()
    with Writer(steering.run) as store:
        known = store.query(
            "SELECT summary FROM evaluations WHERE name = ? AND task = ? AND split = ? AND scale = ?",
            [steering.name, result.task, result.split, result.scale],
        )
        before = json.loads(known["summary"][0]) if len(known) else {"n": 0}
        if before["n"] > summary["n"]:
            return
        if not result.controls and _same_flips(before, summary):
            summary |= {name: before[name] for name in ("controls", "constrained") if name in before}
        row = {
            "name": steering.name,
            "task": result.task,
            "split": result.split,
            "scale": result.scale,
            "created": pd.Timestamp.now("UTC").tz_localize(None),
            "summary": json.dumps(summary),
            "samples": result.samples.to_json(orient="records"),
        }
        store.add("evaluations", pd.DataFrame([row]))


def _same_flips(one: dict, other: dict) -> bool:
    return all(one.get(name) == other[name] for name in ("n", "unsteered_rate", "positive_flips", "negative_flips"))


def _sample_table(found: Trial, items: Sequence[Item], variant: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample": [item.id for item in items],
            "prompt": [item.prompt for item in items],
            "target": [item.target for item in items],
            "unsteered": [row[0] for row in found.texts],
            "steered": [row[variant] for row in found.texts],
            "outcome_unsteered": found.outcomes[:, 0],
            "outcome_steered": found.outcomes[:, variant],
        }
    )


def _mean(values: np.ndarray) -> float:
    """Mean of what is defined, nan if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
