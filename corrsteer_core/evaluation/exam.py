"""What a set is measured on: the items, how they are put, how they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import resolve_style
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.runs.stored_run import stored, task_of
from corrsteer_core.storage.run_folder import is_cached
from corrsteer_core.tasks import (
    SHIFTED,
    Item,
    Task,
    at_balance,
    get_scorer,
    has_classes,
    held_to,
    limited,
    load_items,
    load_shifted,
    scorer_name,
    without_shots,
)
from corrsteer_core.tasks.columns import written
from corrsteer_core.tasks.load import every_item


@dataclass(frozen=True)
class Balance:
    """A class balance to measure at: items of a split are dropped, at random by the seed, until it is reached."""

    share: float
    """Of the items whose right answer is the task's first class; above 0, below 1."""
    seed: int = 0

    @property
    def name(self) -> str:
        first = 100 * self.share
        return f"{first:g}/{round(100 - first, 10):g} by seed {self.seed}"


@dataclass(frozen=True)
class Exam:
    """What sets are measured on: items of one task, put to the model and scored in one way."""

    task: Task
    split: str
    items: list[Item]
    style: PromptStyle
    max_new_tokens: int
    remarks: tuple[str, ...] = ()
    """What was asked for otherwise than when the set was fitted: another file, another length, another class balance."""
    validation: tuple[Item, ...] = ()
    """Items of the task that offsets of classes are fitted on, in the balance they have; none of them is in `items`."""
    training: tuple[Item, ...] = ()
    """Items of the training split, which examples in a prompt may be taken from; none of them is in `items`."""
    chosen_on: bool = False
    """Whether the set was fitted or chosen on these very items: what is measured on them is no evidence."""
    balance: Balance | None = None
    """What items were left out for."""

    @property
    def name(self) -> str:
        """The task's name with the remarks: what was measured otherwise is another thing and stands beside it."""
        return f"{self.task.name} ({', '.join(self.remarks)})" if self.remarks else self.task.name

    @property
    def has_classes(self) -> bool:
        """Whether its task is to tell classes apart; also where those of one class alone are asked."""
        return has_classes(self.task, (*self.items, *self.validation))

    def asked(self) -> dict[str, Any]:
        """What it takes to put it again, beside split and number of items; ready for JSON."""
        balance = None if self.balance is None else [self.balance.share, self.balance.seed]
        return {"task": self.task.name, "max_new_tokens": self.max_new_tokens, "balance": balance}


def exam_for(
    steering: SteeringSet,
    task: Task,
    model: Model,
    *,
    split: str,
    data: Path | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    balance: Balance | None = None,
) -> Exam:
    """What a set is measured on: of its own task, what its run held back, scored as when it was fitted.

    Whatever the task is called, no prompt that the run fitted or chose on is in its test split. `balance` drops items
    until its share has the first class as the right one; the exam's name says so. Raises CorrSteerError for an empty
    split, for a balance where there are no classes, and when it cannot be known what the set was fitted on.
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
        _check_there(own_file, data, steering.run)
        asked, task, seed, length = task.columns, _as_fitted(fitted, task), fitted.seed, fitted.max_new_tokens
        task = replace(task, columns=asked) if asked else task  # else of another file too what the run's has
    remarks = _of_file(task, data, own_file, fitted)
    data = data or own_file
    shown = (*style.shots, *(of_run.style.shots if of_run else ()))
    wanted = load_shifted(task, data=data, seed=seed) if split == SHIFTED else load_items(task, data=data, seed=seed)
    every = held_to(known, without_shots(wanted, shown))
    if own and steering.run and not fitted and split != SHIFTED:  # shifted items are no split of a seed
        _check_fixed(steering, task, data, every)
    tokens = max_new_tokens or length
    remarks += [f"{tokens}-token answers"] if tokens != length else []
    items = _of_split(every, task, split, data)
    if balance:
        items = at_balance(task, items, balance.share, balance.seed)
        remarks.append(balance.name)
    items = limited(items, limit, seed) if limit else items
    held = known if own and known else _beside_shifted(task, data, seed) if split == SHIFTED else every
    measured = {item.prompt for item in items}
    rest = [item for item in held if item.prompt not in measured]
    training, validation = (tuple(item for item in rest if item.split == part) for part in ("train", "validation"))
    used = {item.prompt for item in known if item.split in ("train", "validation")}
    chosen_on = (own and split in ("train", "validation")) or bool(measured & used)
    return Exam(task, split, items, style, tokens, tuple(remarks), validation, training, chosen_on, balance)


def _beside_shifted(task: Task, data: Path | None, seed: int) -> list[Item]:
    """The items of the other splits; [] for a file of shifted ones alone."""
    return [item for item in every_item(task, data=data, seed=seed) if item.split != SHIFTED]


def _check_there(own_file: Path | None, data: Path | None, run: str) -> None:
    """Raise CorrSteerError when the run's own file is asked for and gone."""
    if own_file and not data and not own_file.exists():
        raise CorrSteerError(
            f"The file {own_file}, from which the run {run} has its samples, is not there any more; put it "
            f"back, or measure on a copy of it with evaluate --data."
        )


def _of_file(task: Task, data: Path | None, own_file: Path | None, fitted: RunConfig | None) -> list[str]:
    """What to remark of the file: that it is another one, or read otherwise, than the run's or the task's."""
    found = [data.name] if data and not _same_file(data, own_file or task.file) else []
    return [*found, f"columns {written(task.columns)}"] if fitted and task.columns != fitted.columns else found


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
            f"give --scorer {fitted.scorer}, or fit again with the other one."
        )
    return own


def _check_fixed(steering: SteeringSet, task: Task, data: Path | None, every: Sequence[Item]) -> None:
    """Raise CorrSteerError when another seed would divide the items otherwise, and nobody knows the run's."""
    other = {item.id: item.split for item in load_items(task, data=data, seed=1)}
    if any(other[item.id] != item.split for item in every):
        raise CorrSteerError(
            f"The set {steering.name!r} was fitted on {task.name} in the run {steering.run}, which is not cached, so it is "
            f"not known which samples were held back; give a file that names the split of every row, or make the run again."
        )


def _of_split(every: Sequence[Item], task: Task, split: str, data: Path | None) -> list[Item]:
    items = [item for item in every if item.split == split]
    if not items:
        have = ", ".join(sorted({item.split for item in every}))
        raise CorrSteerError(
            f"The task {task.name} has no {split} items{f' in {data}' if data else ''}; it has {have}."
        )
    return items
