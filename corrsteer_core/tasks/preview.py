"""What a run would take of a file or a task, before it is started: its columns and first rows, its items, what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks.base import SHIFTED, Item, Task
from corrsteer_core.tasks.columns import names
from corrsteer_core.tasks.load import drafts, every_item, row_problems
from corrsteer_core.tasks.rows import read_rows
from corrsteer_core.tasks.scoring.scorers import SCORERS, target_problem
from corrsteer_core.tasks.shots import Shots, load_with_shots

FIRST = 5  # rows that are shown
SAID = 3
"""Rows of which it is said what is wrong with them; of the others, how many there are."""


@dataclass(frozen=True)
class Rows:
    """A file as it is, whatever it means."""

    columns: tuple[str, ...]
    first: tuple[Mapping[str, Any], ...]
    count: int


def rows_of(path: Path, first: int = FIRST) -> Rows:
    """The columns of a file and its first rows. Raises CorrSteerError for one that cannot be read or holds none."""
    rows = read_rows(path)
    return Rows(tuple(names(rows)), tuple(row.fields for row in rows[:first]), len(rows))


@dataclass(frozen=True)
class Taken:
    """The items of a run, or why there can be none."""

    items: tuple[Item, ...] = ()
    shots: Shots = ()
    """The examples before every prompt, which are none of the items."""
    copies: int = 0
    """Rows that are left out because their prompt is there already."""
    shifted: int = 0
    """Rows that a set can be measured on later; no part of the run."""
    problems: tuple[str, ...] = ()
    """What is wrong, in sentences; then nothing is taken."""
    wrong: int = 0
    """Rows with a problem, those in `problems` among them."""

    @property
    def splits(self) -> dict[str, int]:
        """Items of each split."""
        return dict(Counter(item.split for item in self.items))

    @property
    def targets(self) -> dict[str, int]:
        """Items of each right answer, the commonest first."""
        return dict(Counter(item.target for item in self.items if item.target is not None).most_common())


def taken(task: Task, *, limit: int | None = None, shots: int = 0, seed: int = 0) -> Taken:
    """What a run of a task with these settings would take; nothing is raised for what is wrong with a file."""
    try:
        examples, items = load_with_shots(task, shots, seed=seed, limit=limit)
        every = every_item(task, seed=seed)
        left_out = len(drafts(task)) - len(every)
        return Taken(tuple(items), examples, left_out, sum(item.split == SHIFTED for item in every))
    except CorrSteerError as error:
        wrong = _rows_with_problems(task)
        return Taken(problems=tuple(wrong[:SAID]) or (str(error),), wrong=len(wrong))


def suited(targets: Iterable[str | None]) -> str | None:
    """The name of a scorer that right answers like these are usual for; None where most rows have none."""
    found = list(targets)
    known = [one for one in found if one is not None]
    if 2 * len(known) <= len(found):
        return None
    for name in ("comply_or_refuse", "letter", "number"):
        if not any(target_problem(SCORERS[name], one) for one in known):
            return name
    return "first_word" if all(len(one.split()) == 1 for one in known) else "contains"


def _rows_with_problems(task: Task) -> list[str]:
    try:
        return row_problems(task)
    except CorrSteerError:  # of the file as a whole: there are no rows to look at
        return []
