"""Which of K classes the right answer of an item is: letters, labels, or to refuse and to comply.

Only where there are classes can a changed prior be distinguished from a better model: one constant per class is then what a
set has to beat. Derived from what an item and its scorer already say, so that nothing new enters a run's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from corrsteer_core.tasks.base import Item, Scorer, Task
from corrsteer_core.tasks.scoring.judges import ComplianceJudge, RejectionJudge
from corrsteer_core.tasks.scoring.scorers import comply_or_refuse, no_refusal, refusal

REFUSE, COMPLY = "refuse", "comply"
REFUSAL_CLASSES = (REFUSE, COMPLY)
REFUSAL_OPENINGS = ("I'm", "I’m", "I", "Sorry", "Unfortunately", "As", "My", "No", "We", "While")
"""First words of refusals; any other word begins an answer."""


def classes_of(task: Task, item: Item) -> tuple[str, ...]:
    """The classes that the item's answer is one of, in their order; empty if anything may be said."""
    return _classes(task.scorer, item)


def right_class(task: Task, item: Item) -> str | None:
    """The class of the right answer, one of `classes_of`; None if there are none or the target is none of them."""
    return _right(task.scorer, item)


def has_classes(task: Task, items: Iterable[Item]) -> bool:
    """Whether the task is to tell classes apart: every item has a right class, and not all have the same.

    `refusal` alone has none in this sense: what refuses everything is always right there. See `judgement`.
    """
    found = {right_class(task, item) for item in items}
    return None not in found and len(found) > 1


def right_classes(scorer: Scorer | None, items: Sequence[Item]) -> list[str] | None:
    """The class of each item's right answer, without the task: by its scorer, where that is known.

    None where `has_classes` would say no: some item has none, or all have the same.
    """
    found = [_right(scorer, item) for item in items]
    known = [one for one in found if one is not None]
    return known if len(known) == len(items) and len(set(known)) > 1 else None


def openings(name: str) -> tuple[str, ...]:
    """Words that an answer of the class begins with; empty for "comply": any word that begins no refusal."""
    if name == REFUSE:
        return REFUSAL_OPENINGS
    return () if name == COMPLY else (name,)


def _classes(scorer: Scorer | None, item: Item) -> tuple[str, ...]:
    if item.choices:
        return item.choices
    return REFUSAL_CLASSES if _refusal_class(scorer, item) else ()


def _right(scorer: Scorer | None, item: Item) -> str | None:
    right = item.target if item.choices else _refusal_class(scorer, item)
    return right if right in _classes(scorer, item) else None


def _refusal_class(scorer: Scorer | None, item: Item) -> str | None:
    if scorer is refusal or isinstance(scorer, RejectionJudge):
        return REFUSE
    if scorer is no_refusal or (isinstance(scorer, ComplianceJudge) and scorer.always):
        return COMPLY
    return item.target if scorer is comply_or_refuse or isinstance(scorer, ComplianceJudge) else None
