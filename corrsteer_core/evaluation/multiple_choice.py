"""Constrained decoding: the best of the choices' own tokens, unsteered and steered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from corrsteer_core.base.progress import Progress, part_of
from corrsteer_core.engine.choosing import constrained
from corrsteer_core.engine.class_probabilities import class_tokens
from corrsteer_core.engine.generation import Vectors
from corrsteer_core.evaluation.exam import Exam
from corrsteer_core.evaluation.trials import Comparison, Trial, clusters_of, compare, trial, unsteered_and
from corrsteer_core.models.loading import Model
from corrsteer_core.statistics.rival import RivalComparison, compare_with_rivals
from corrsteer_core.tasks import Item

MEASURING = "measuring"
CONSTRAINED = "constrained"
CONSTRAINED_STEERED = "constrained and steered"


@dataclass(frozen=True)
class Limited:
    """What answers limited to the choices do, beside a set."""

    compared: dict[str, Comparison]
    """Unsteered and steered, against the free unsteered texts."""
    beside: RivalComparison
    """The set, free, beside the unsteered model so limited, sample by sample."""


def constrained_comparisons(
    exam: Exam, free: Trial, vectors: Sequence[Vectors], model: Model, progress: Progress
) -> list[Limited]:
    """For each set, the first of the variants of `free` after the unsteered one, constrained decoding beside it.

    All must be multiple choice whose every choice can be said in one token.
    """
    held = constrained_trial(exam, unsteered_and(*vectors), model, progress)
    texts = [[before[0], *of_item] for before, of_item in zip(free.texts, held.texts, strict=True)]
    whole = Trial(tuple(exam.items), texts, [], np.column_stack([free.outcomes[:, 0], held.outcomes]))
    limited, clusters = {CONSTRAINED: held.outcomes[:, 0]}, clusters_of(exam.items)
    return [
        Limited(
            {CONSTRAINED: compare(whole, 1), CONSTRAINED_STEERED: compare(whole, 2 + place)},
            compare_with_rivals(free.outcomes[:, 1 + place], limited, clusters=clusters)[0],
        )
        for place in range(len(vectors))
    ]


def constrained_trial(exam: Exam, variants: Sequence[Vectors], model: Model, progress: Progress) -> Trial:
    """The exam answered under variants, each answer the best of the item's own choices; without tokens.

    All items must be multiple choice whose every choice can be said in one token.
    """
    done = 0
    outcomes = np.zeros((len(exam.items), len(variants)))
    texts: list[list[str]] = [[] for _ in exam.items]
    for choices, places in _by_choices(exam.items):
        found = trial(
            model,
            [exam.items[place] for place in places],
            variants,
            style=exam.style,
            scorer=exam.task.scorer,
            max_new_tokens=1,
            choose=constrained(choice_tokens(model, choices)),
            progress=part_of(progress, done / len(exam.items), len(places) / len(exam.items), MEASURING),
        )
        done += len(places)
        for place, row, of_item in zip(places, found.texts, found.outcomes, strict=True):
            texts[place] = row
            outcomes[place] = of_item
    return Trial(tuple(exam.items), texts, [], outcomes)


def one_token_choices(exam: Exam, model: Model) -> bool:
    return all(item.choices and choice_tokens(model, item.choices) for item in exam.items)


def choice_tokens(model: Model, choices: Sequence[str]) -> list[int]:
    """Tokens that are a whole choice (see `class_tokens`), in any order of choices; [] when some choice has none."""
    return sorted(token for of_class in class_tokens(model, choices) for token in of_class)


def _by_choices(items: Sequence[Item]) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(item.choices, []).append(place)
    yield from groups.items()
