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

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, part_of, silent
from corrsteer_core.engine.generation import Choose, Vectors, constrained, greedy
from corrsteer_core.engine.steering import SteeringSet
from corrsteer_core.evaluation import controls
from corrsteer_core.evaluation.trials import Comparison, Trial, compare, fluency, mean_fluency, trial, unsteered_and
from corrsteer_core.method.pipeline import features_of, saes_of, stored, task_of
from corrsteer_core.models.loading import Model, load_model
from corrsteer_core.models.prompts import PromptStyle, render, resolve_style
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.store import Writer, is_cached
from corrsteer_core.saes.sae import Sae
from corrsteer_core.tasks import Item, Task, get_scorer, held_to, limited, load_items, scorer_name, without_shots

LONG_WAIT = 600.0
"""Seconds that a finished measurement waits for another writer: it took as long to make."""
MEASURING = "measuring"
ANSWERING_SHARE = 0.75
"""Of the time of a measurement, roughly; the rest goes into fluency."""
CONSTRAINED_SHARE = 0.3
"""Of the time of a measurement that has constrained decoding too, roughly."""
CONSTRAINED = "constrained"
CONSTRAINED_STEERED = "constrained and steered"


@dataclass(frozen=True)
class Evaluation:
    """A set measured on a split, with what it is compared with."""

    name: str
    """Of the set."""
    content: str
    """Hash of the set (see SteeringSet.content)."""
    task: str
    """Name of the exam."""
    split: str
    scale: float
    comparison: Comparison
    fluency_unsteered: float | None
    """Mean over the texts of the mean negative log-likelihood per token, nats; None if no text has a token."""
    fluency_steered: float | None
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
            "content": self.content,
            "task": self.task,
            "split": self.split,
            "scale": self.scale,
            **asdict(self.comparison),
            "effect": self.comparison.effect,
            "fluency": {"unsteered": self.fluency_unsteered, "steered": self.fluency_steered},
            "controls": rivals(self.controls),
            "constrained": rivals(self.constrained),
        }


@dataclass(frozen=True)
class Exam:
    """What sets are measured on: items of one task, put to the model and scored in one way."""

    task: Task
    split: str
    items: list[Item]
    style: PromptStyle
    max_new_tokens: int
    remarks: tuple[str, ...] = ()
    """What was asked for otherwise than when the set was fitted: another file, another length."""

    @property
    def name(self) -> str:
        """The task's name with the remarks: what was measured otherwise is another thing and stands beside it."""
        return f"{self.task.name} ({', '.join(self.remarks)})" if self.remarks else self.task.name


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
    held_too = bool(control_count) and _one_token_choices(exam, model)
    share = 1 - CONSTRAINED_SHARE * held_too
    measured = _measured(exam, sets, vectors, model, choose, part_of(progress, 0, share))
    rest = part_of(progress, share, 1 - share)
    held = _constrained(exam, measured[0].trial, vectors[: len(sets)], model, rest) if held_too else [{} for _ in sets]
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
    model = model or load_model(sets[0].model)
    for one in sets:
        one.check_model(model)
    saes = [saes_of(one.saes, model) for one in sets]
    results, share = [], 1 / len(tasks) / len(sets)
    for nth, task in enumerate(tasks):
        exams = [exam_for(one, task, model, split=split, limit=limit) for one in sets]
        done = nth * len(sets)
        of_task: dict[int, Evaluation] = {}
        for exam, places in _alike(exams):
            some = [sets[place] for place in places]
            vectors = [sets[place].vectors(saes[place]) for place in places]
            part = part_of(progress, done * share, len(some) * share)
            done += len(some)
            for place, found in zip(places, _measured(exam, some, vectors, model, greedy, part), strict=True):
                _keep(sets[place], found.evaluation)
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
        progress=part_of(progress, 0, ANSWERING_SHARE, MEASURING),
    )
    scoring = part_of(progress, ANSWERING_SHARE, 1 - ANSWERING_SHARE, MEASURING)
    prompts = [render(model, item.prompt, exam.style) for item in exam.items]
    nll = mean_fluency(fluency(model, prompts, [row[: 1 + len(sets)] for row in found.tokens], progress=scoring))
    return [
        _Found(
            Evaluation(
                name=one.name,
                content=one.content,
                task=exam.name,
                split=exam.split,
                scale=one.scale,
                comparison=compare(found, place),
                fluency_unsteered=nll[0],
                fluency_steered=nll[place],
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

    All must be multiple choice whose every choice can be said in one token.
    """
    done = 0
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
            progress=part_of(progress, done / len(exam.items), len(places) / len(exam.items), MEASURING),
        )
        done += len(places)
        for place, row, of_item in zip(places, found.texts, found.outcomes, strict=True):
            texts[place] = [free.texts[place][0], *row]
            outcomes[place] = [free.outcomes[place, 0], *of_item]
    whole = Trial(tuple(exam.items), texts, [], outcomes)
    return [
        {CONSTRAINED: compare(whole, 1), CONSTRAINED_STEERED: compare(whole, 2 + place)}
        for place in range(len(vectors))
    ]


def _one_token_choices(exam: Exam, model: Model) -> bool:
    return all(item.choices and choice_tokens(model, item.choices) for item in exam.items)


def choice_tokens(model: Model, choices: Sequence[str]) -> list[int]:
    """Tokens that are a whole choice, after a space or without one; words in lower case too, as scorers take them.

    [] when some choice takes several tokens in every spelling: the first of them would be no answer.
    """
    tokens: set[int] = set()
    for choice in choices:
        spelled = (choice, choice.lower()) if len(choice) > 1 else (choice,)
        written = [
            model.tokenizer.encode(f"{space}{form}", add_special_tokens=False)
            for form in spelled
            for space in ("", " ")
        ]
        whole = {ids[0] for ids in written if len(ids) == 1}
        if not whole or not choice.strip():
            return []
        tokens |= whole
    return sorted(tokens)


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
    """What a set is measured on: of its own task, what its run held back, scored as when it was fitted.

    Whatever the task is called, no prompt that the run fitted or chose on is in its test split.
    Raises CorrSteerError for an empty split, and when it cannot be known what the set was fitted on.
    """
    own = steering.task == task.name
    # The prompt of fitting for the task the set was fitted on; every other task has its own.
    style = steering.style if own else resolve_style(model, chat=None, task_chat=task.chat)
    of_run, known = stored(steering.run) if steering.run and is_cached(steering.run) else (None, [])
    # Of the very task: the run's file, seed, scorer and length then hold.
    fitted = of_run if of_run and own and of_run.task == task.name else None
    seed, own_file, length = 0, None, task.max_new_tokens
    if fitted:
        own_file = Path(fitted.data) if fitted.data else None
        if own_file and not data and not own_file.exists():
            raise CorrSteerError(
                f"The file {own_file}, from which the run {steering.run} has its samples, is not there any more; put it "
                f"back, or measure on a copy of it with evaluate --data."
            )
        task, seed, length = _as_fitted(fitted, task), fitted.seed, fitted.max_new_tokens
    remarks = [data.name] if data and not _same_file(data, own_file or task.file) else []
    data = data or own_file
    shown = (*style.shots, *(of_run.style.shots if of_run else ()))
    every = held_to(known, without_shots(load_items(task, data=data, seed=seed), shown))
    if own and steering.run and not fitted:
        _check_fixed(steering, task, data, every)
    tokens = max_new_tokens or length
    remarks += [f"{tokens}-token answers"] if tokens != length else []
    return Exam(task, split, _of_split(every, task, split, data, limit, seed), style, tokens, tuple(remarks))


def _same_file(one: Path, other: Path | None) -> bool:
    return other is not None and one.resolve() == other.resolve()


def _as_fitted(fitted: RunConfig, asked: Task) -> Task:
    """The run's own task. Raises CorrSteerError if another scorer was asked for: its rates would be another thing's."""
    own = task_of(fitted)
    if not fitted.scorer:
        return own
    # By the judge, where there is one, or by the rules that stand behind it.
    if scorer_name(asked.scorer) not in (scorer_name(own.scorer), scorer_name(get_scorer(fitted.scorer))):
        raise CorrSteerError(
            f"The set was fitted with answers scored by {fitted.scorer}, and {scorer_name(asked.scorer)} was asked for; "
            f"give --scorer {fitted.scorer}, or fit anew with the other one."
        )
    return own


def _check_fixed(steering: SteeringSet, task: Task, data: Path | None, every: Sequence[Item]) -> None:
    """Raise CorrSteerError when another seed would divide the items otherwise, and nobody knows the run's."""
    other = {item.id: item.split for item in load_items(task, data=data, seed=1)}
    if any(other[item.id] != item.split for item in every):
        raise CorrSteerError(
            f"The set {steering.name!r} was fitted on {task.name} in the run {steering.run}, which is not cached, so it is "
            f"not known which samples were held back; give a file that names the split of every row, or make the run anew."
        )


def _of_split(
    every: Sequence[Item], task: Task, split: str, data: Path | None, limit: int | None, seed: int
) -> list[Item]:
    items = [item for item in every if item.split == split]
    if not items:
        have = ", ".join(sorted({item.split for item in every}))
        raise CorrSteerError(
            f"The task {task.name} has no {split} items{f' in {data}' if data else ''}; it has {have}."
        )
    return limited(items, limit, seed) if limit else items


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
    """Keep an evaluation with the set's run, in place of the same one; controls measured before stay."""
    if not (steering.run and steering.name and is_cached(steering.run)):
        return
    summary = result.summary()
    with Writer(steering.run, wait=LONG_WAIT) as store:
        known = store.query(
            "SELECT summary FROM evaluations WHERE name = ? AND content = ? AND task = ? AND split = ? AND scale = ? "
            "AND n = ?",
            [steering.name, result.content, result.task, result.split, result.scale, summary["n"]],
        )
        before = json.loads(known["summary"][0]) if len(known) else {}
        if not result.controls and _same_flips(before, summary):
            summary |= {name: before[name] for name in ("controls", "constrained") if name in before}
        row = {
            "name": steering.name,
            "content": result.content,
            "task": result.task,
            "split": result.split,
            "scale": result.scale,
            "n": summary["n"],
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
