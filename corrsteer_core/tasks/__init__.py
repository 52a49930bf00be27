"""Tasks: what is asked, how answers are scored, and the split that every item is in.

Fitting, evaluation and playground take their items from `load_items`; nothing here knows a model.
"""

from __future__ import annotations

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks.base import SHIFTED, SPLITS, HubSource, Item, Scorer, Split, Task
from corrsteer_core.tasks.classes import COMPLY, REFUSE, classes_of, has_classes, openings, right_class, right_classes
from corrsteer_core.tasks.custom import custom_task, get_scorer
from corrsteer_core.tasks.hints import close_match
from corrsteer_core.tasks.load import drafts, load_items
from corrsteer_core.tasks.named import NAMED
from corrsteer_core.tasks.scoring.judges import JUDGES, load_judge, with_judge
from corrsteer_core.tasks.scoring.scorers import SCORERS, scorer_name
from corrsteer_core.tasks.shifted import at_balance, has_shifted, load_shifted
from corrsteer_core.tasks.shots import load_with_shots, without_shots
from corrsteer_core.tasks.splits import held_to, limited

TASKS = NAMED
"""Every task that has a name, built-in ones first."""


def get_task(name: str) -> Task:
    """A task by name. Raises CorrSteerError that names those there are."""
    if name not in TASKS:
        raise CorrSteerError(f"There is no task {name!r}{close_match(name, TASKS)}; the tasks are {', '.join(TASKS)}.")
    return TASKS[name]


__all__ = [
    "COMPLY",
    "JUDGES",
    "REFUSE",
    "SCORERS",
    "SHIFTED",
    "SPLITS",
    "TASKS",
    "HubSource",
    "Item",
    "Scorer",
    "Split",
    "Task",
    "at_balance",
    "classes_of",
    "custom_task",
    "drafts",
    "get_scorer",
    "get_task",
    "has_classes",
    "has_shifted",
    "held_to",
    "limited",
    "load_items",
    "load_judge",
    "load_shifted",
    "load_with_shots",
    "openings",
    "right_class",
    "right_classes",
    "scorer_name",
    "with_judge",
    "without_shots",
]
