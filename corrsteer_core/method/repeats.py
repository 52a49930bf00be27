"""What of a run's prompts is there more than once: copies left out, targets that contradict, near copies across splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corrsteer_core.base.text_diff import shared_ends
from corrsteer_core.statistics.dedupe import contradictions, exact_duplicates, near_duplicates
from corrsteer_core.tasks import Item, Task, drafts


@dataclass(frozen=True)
class Repeats:
    """The counts that a run's configuration keeps."""

    copies: int
    contradictions: int
    near_copies: int


def repeated(task: Task, items: Sequence[Item], data: Path | None = None) -> Repeats:
    """Of the task's rows the copies and contradictions, of the run's `items` the near copies in the test split."""
    rows = drafts(task, data=data)
    prompts, targets = [row.prompt for row in rows], [row.target for row in rows]
    left_out = sum(len(group) - 1 for group in exact_duplicates(prompts))
    return Repeats(left_out, len(contradictions(prompts, targets)), near_copies(items))


def near_copies(items: Sequence[Item]) -> int:
    """Test samples that nearly repeat one of another split, apart from what all prompts begin and end with."""
    start, end = shared_ends([item.prompt for item in items])
    own = [item.prompt[start : len(item.prompt) - end] for item in items]
    # Training against validation does no harm that the test split would not show.
    splits = ["test" if item.split == "test" else "other" for item in items]
    return sum(splits[one.index] == "test" for one in near_duplicates(own, splits))
