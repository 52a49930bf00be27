"""Few-shot examples: items of the train split, shown with their answers before every prompt and used for nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks.base import Item, Task
from corrsteer_core.tasks.load import load_items
from corrsteer_core.tasks.parse import draft_of
from corrsteer_core.tasks.rows import Row, read_rows
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
    _check_answers(task)
    items = load_items(task, data=data, seed=seed)
    examples = examples_from(task, items, shots, seed)
    rest = without_shots(items, examples)
    return examples, rest if limit is None else limited(rest, limit, seed)


def without_shots(items: Iterable[Item], shots: Sequence[tuple[str, str]]) -> list[Item]:
    """The items that are not among the examples; nothing that was shown may be asked."""
    shown = {normalised(prompt) for prompt, _ in shots}
    return [item for item in items if normalised(item.prompt) not in shown]


def _check_answers(task: Task) -> None:
    """Raise CorrSteerError for a task whose targets are no answers."""
    if task.scorer in _NO_ANSWER or not task.needs_target:
        raise CorrSteerError(
            f"The task {task.name} (scorer {scorer_name(task.scorer)}) has no right answers to show as examples; leave "
            f"--shots out."
        )


def examples_in(task: Task, file: Path) -> Shots:
    """The rows of a file as examples: in the task's own shape or with `prompt`, and the target or an `answer` as the answer.

    Raises CorrSteerError for a file that cannot be read, and a row without answer, naming its line.
    """
    return tuple(_example(task, row, index) for index, row in enumerate(read_rows(file)))


def _example(task: Task, row: Row, index: int) -> tuple[str, str]:
    try:
        draft = draft_of(task, row.fields, index)
        given = "" if "answer" in task.fields else row.fields.get("answer")  # MMLU's is the place of a choice
        answer = str(given or (draft.target if draft else "") or "").strip()
        if draft is None or not answer:
            raise ValueError("has no 'answer' to show; add it")
    except ValueError as error:
        raise CorrSteerError(f"{row.where[0].upper()}{row.where[1:]} {error}.") from error
    return draft.prompt, answer


def examples_from(task: Task, items: Sequence[Item], count: int, seed: int) -> Shots:
    """So many of the items' train split as examples, strata in turn; which ones, the seed says.

    Raises CorrSteerError for a task whose targets are no answers, and when the train split is too small.
    """
    _check_answers(task)
    usable = [place for place, item in enumerate(items) if item.split == "train" and item.target]
    if count >= len(usable):
        raise CorrSteerError(
            f"{count} examples were asked for, but the train split of {task.name} has {len(usable)} items with answers, and "
            f"some must be left to fit on; ask for fewer with --shots."
        )
    chosen = in_turn(items, usable, seed)[:count]
    return tuple((items[place].prompt, items[place].target or "") for place in chosen)
