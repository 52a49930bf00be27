"""A trial of a task whose answer is one of K classes, seen as classes: what is right, what was likely, what was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.class_probabilities import ClassTokens, class_tokens
from corrsteer_core.engine.generation import Vectors
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import render
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.statistics.classes import NO_CHOICE
from corrsteer_core.tasks import Item, Task, classes_of, has_classes, openings, right_class


@dataclass(frozen=True)
class ClassView:
    """Samples of a task with classes; numbers of classes are places in `names`."""

    names: tuple[str, ...]
    right: NDArray[np.int64]  # (samples,) the right class of each
    logp: NDArray[np.float64]  # (samples, variants, classes); -inf for a class that a sample does not have


def names_of(task: Task, items: Sequence[Item]) -> tuple[str, ...]:
    """The classes of some items, in the order in which they come first: choices need not stand alike in every item."""
    return tuple(dict.fromkeys(name for item in items for name in classes_of(task, item)))


def tokens_of(model: Model, task: Task, items: Sequence[Item], beside: Sequence[Item] = ()) -> list[ClassTokens]:
    """For each item the tokens of its classes; [] where the task has no classes, or some class no token of its own.

    `beside` are more items of the task: a split in which every right answer is of one class has classes all the same.
    """
    if not items or not has_classes(task, (*items, *beside)):
        return []
    known: dict[tuple[str, ...], ClassTokens] = {}
    for item in items:
        names = classes_of(task, item)
        if names not in known:
            known[names] = class_tokens(model, item.choices) if item.choices else _by_opening(model, names)
    found = [known[classes_of(task, item)] for item in items]
    return found if all(found) else []


def _by_opening(model: Model, names: Sequence[str]) -> ClassTokens:
    """First tokens of the words that each class begins with; () for the class of all other words."""
    encode = model.tokenizer.encode
    return tuple(
        tuple(
            sorted(
                {
                    encode(f"{space}{word}", add_special_tokens=False)[0]
                    for word in openings(name)
                    for space in ("", " ")
                }
            )
        )
        for name in names
    )


def class_view(task: Task, items: Sequence[Item], logp: Sequence[np.ndarray], names: Sequence[str] = ()) -> ClassView:
    """The view of a trial: `logp` holds (variants, the item's classes) for each item, as `Trial.class_logp` does.

    `names` are those of all splits, where views of several are compared.
    """
    names = tuple(names) or names_of(task, items)
    place = {name: number for number, name in enumerate(names)}
    whole = np.full((len(items), len(logp[0]), len(names)), -np.inf)
    for row, (item, found) in enumerate(zip(items, logp, strict=True)):
        whole[row][:, [place[name] for name in classes_of(task, item)]] = found
    right = np.array([place[str(right_class(task, item))] for item in items], dtype=np.int64)
    return ClassView(names, right, whole)


def likely_classes(
    model: Model,
    task: Task,
    items: Sequence[Item],
    variants: Sequence[Vectors],
    style: PromptStyle,
    names: Sequence[str] = (),
) -> ClassView:
    """The view of some items under variants, from one decoded position each; nothing is scored."""
    prompts = [render(model, item.prompt, style) for item in items]
    logp: list[np.ndarray] = [np.zeros((0, 0))] * len(items)
    asked = tokens_of(model, task, items)
    for batch in answers(model, prompts, max_new_tokens=1, variants=variants, classes=asked):
        for place, found in zip(batch.prompts, batch.class_logp, strict=True):
            logp[place] = found
    return class_view(task, items, logp, names)


def answered_classes(
    task: Task, items: Sequence[Item], texts: Sequence[str], names: Sequence[str]
) -> NDArray[np.int64]:
    """The class that each text answers, by the task's own scorer: the one that would have made it right, else none."""
    return np.array(
        [_answered(task, item, text, names) for item, text in zip(items, texts, strict=True)], dtype=np.int64
    )


def _answered(task: Task, item: Item, text: str, names: Sequence[str]) -> int:
    for number, name in enumerate(names):
        if name in classes_of(task, item) and task.scorer(text, replace(item, target=name)) > 0.5:
            return number
    return NO_CHOICE
