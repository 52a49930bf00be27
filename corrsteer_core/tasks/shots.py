"""Few-shot examples: items of the train split, shown with their answers before every prompt and used for nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks.base import Item, Task
from corrsteer_core.tasks.load import load_items
from corrsteer_core.tasks.scoring.scorers import TARGETLESS, comply_or_refuse, regex_search, scorer_name
from corrsteer_core.tasks.splits import in_turn, limited, normalised

Shots = tuple[tuple[str, str], ...]
"""(prompt, answer) each."""

# Their targets, where they have any, say what an answer is like, not what it is.
_NO_ANSWER = (*TARGETLESS, comply_or_refuse, regex_search)


def load_with_shots(
    task: Task, shots: int, *, data: Path | None = None, seed: int = 0, limit: int | None = None
) -> tuple[Shots, list[Item]]:
    """As `load_items`, with so many of the train split's items taken out as examples, which come first.

    Which ones they are depends on the seed, not on the limit; strata take turns. Raises CorrSteerError for a
    task whose targets are no answers, and when the train split is too small.
    """
    if shots < 1:
        return (), load_items(task, data=data, seed=seed, limit=limit)
    if task.scorer in _NO_ANSWER or not task.needs_target:
        raise CorrSteerError(
            f"The task {task.name} (scorer {scorer_name(task.scorer)}) has no right answers to show as examples; leave "
            f"--shots out."
        )
    items = load_items(task, data=data, seed=seed)
    examples = _examples(task, items, shots, seed)
    rest = without_shots(items, examples)
    return examples, rest if limit is None else limited(rest, limit, seed)


def without_shots(items: Iterable[Item], shots: Sequence[tuple[str, str]]) -> list[Item]:
    """The items that are not among the examples; nothing that was shown may be asked."""
    shown = {normalised(prompt) for prompt, _ in shots}
    return [item for item in items if normalised(item.prompt) not in shown]


def _examples(task: Task, items: Sequence[Item], count: int, seed: int) -> Shots:
    usable = [place for place, item in enumerate(items) if item.split == "train" and item.target]
    if count >= len(usable):
        raise CorrSteerError(
            f"{count} examples were asked for, but the train split of {task.name} has {len(usable)} items with answers, and "
            f"some must be left to fit on; ask for fewer with --shots."
        )
    chosen = in_turn(items, usable, seed)[:count]
    return tuple((items[place].prompt, items[place].target or "") for place in chosen)
