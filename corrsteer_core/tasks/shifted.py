"""Shifted items: the same task, made otherwise. They fit nothing, choose nothing and are not in test.

An effect that only holds where it was fitted and chosen is an effect of the items; these tell the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.uploads import known_as
from corrsteer_core.tasks.base import SHIFTED, Item, Task
from corrsteer_core.tasks.classes import classes_of, has_classes, right_class
from corrsteer_core.tasks.load import check_limit, every_item
from corrsteer_core.tasks.splits import in_turn, limited


def load_shifted(
    task: Task, *, data: Path | None = None, seed: int = 0, limit: int | None = None, balance: float | None = None
) -> list[Item]:
    """The task's shifted items, or the rows of the file `data` whose `split` is "shifted".

    `balance` drops items until the first class has this share (`at_balance`); `limit` then takes so many, strata
    in proportion. Raises CorrSteerError where there is none.
    """
    check_limit(limit)
    source = data or task.shifted
    if source is None and task.file is None:
        raise CorrSteerError(
            f'The task {task.name} has no shifted items; give a file whose rows have "shifted" as their split with --data.'
        )
    if not data:  # columns are those of a file of the user's
        task = replace(task, columns=()) if task.shifted else task
    items = [item for item in every_item(task, data=source, seed=seed) if item.split == SHIFTED]
    if not items:
        raise CorrSteerError(
            f'{known_as(source) if source else task.source} holds no shifted row; write "shifted" as the split of some.'
        )
    items = items if balance is None else at_balance(task, items, balance, seed)
    return items if limit is None else limited(items, limit, seed)


def has_shifted(task: Task) -> bool:
    """Whether the task brings shifted items of its own."""
    return task.shifted is not None


def at_balance(task: Task, items: Sequence[Item], share: float, seed: int = 0) -> list[Item]:
    """The most items of which this share has the first class ("Positive", "A", "refuse") as the right one.

    Which ones are dropped depends on the seed and the prompts alone. Raises CorrSteerError for a share that is not
    between 0 and 1 or leaves a class without items, and where right answers are no classes.
    """
    if not 0 < share < 1:
        raise CorrSteerError(f"A class balance of {share:g} was asked for; give a share between 0 and 1, like 0.8.")
    if not has_classes(task, items):
        raise CorrSteerError(f"The answers of the task {task.name} are no classes to balance; leave the balance out.")
    first = classes_of(task, items[0])[0]
    groups = [[i for i, item in enumerate(items) if (right_class(task, item) == first) is one] for one in (True, False)]
    whole = min(len(groups[0]) / share, len(groups[1]) / (1 - share))
    sizes = (round(whole * share), round(whole * (1 - share)))
    if not all(sizes):
        raise CorrSteerError(
            f"The {len(items)} items of the task {task.name} are too few for a class balance of {share:g}: a class would "
            f"have none; ask for one nearer to a half."
        )
    kept = {i for group, size in zip(groups, sizes, strict=True) for i in in_turn(items, group, seed)[:size]}
    return [item for i, item in enumerate(items) if i in kept]
