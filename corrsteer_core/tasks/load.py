"""From a task to its items: read rows, parse them, drop copies, divide, take as many as asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.uploads import known_as
from corrsteer_core.tasks.base import SHIFTED, SPLITS, Draft, Item, Split, Task
from corrsteer_core.tasks.columns import in_words, mapped
from corrsteer_core.tasks.hub import hub_rows
from corrsteer_core.tasks.parse import draft_of
from corrsteer_core.tasks.rows import Row, read_rows
from corrsteer_core.tasks.scoring.scorers import check_scorer, target_problem
from corrsteer_core.tasks.splits import ALL_THREE, FIT_ONLY, assign, drop_duplicates, limited

_SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "auxiliary_train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "shifted": "shifted",
}


@dataclass(frozen=True)
class _Parsed:
    row: Row
    draft: Draft
    split: Split | None


def load_items(task: Task, *, data: Path | None = None, seed: int = 0, limit: int | None = None) -> list[Item]:
    """The task's items, each in one split; `data` is a local file in place of the task's own source.

    Rows that name a split keep it, the others are divided 50 / 20 / 30 (a published test set stays test),
    stratified and seeded. Of rows with the same prompt only the first stays. `limit` is the number of items over
    all splits. Shifted items are none of them (`load_shifted`). Raises CorrSteerError for anything wrong with the
    file, naming the line.
    """
    check_limit(limit)
    items = [item for item in every_item(task, data=data, seed=seed) if item.split != SHIFTED]
    if not items:
        raise CorrSteerError(
            f"{known_as(data) if data else task.source} holds shifted rows only, which no run is made of; add rows of "
            f"the other splits."
        )
    return items if limit is None else limited(items, limit, seed)


def check_limit(limit: int | None) -> None:
    """Raises CorrSteerError for a limit that leaves nothing."""
    if limit is not None and limit < 1:
        raise CorrSteerError(f"The limit is {limit}, but at least 1 item is needed; give a larger --limit.")


def every_item(task: Task, *, data: Path | None = None, seed: int = 0) -> list[Item]:
    """The items of all splits, shifted ones too. A shifted row that copies one of another split is dropped."""
    return _divide(task, _without_copies(_kept(task, data)), seed)


def drafts(task: Task, *, data: Path | None = None) -> list[Draft]:
    """What the rows hold, in their order, copies too: to see what `every_item` leaves out."""
    return [entry.draft for entry in _kept(task, data)]


def row_problems(task: Task) -> list[str]:
    """What is wrong with each row that cannot be used, in sentences. Raises CorrSteerError for a file without rows to read."""
    found = []
    for index, row in enumerate(_rows(task, None)):
        try:
            _parse(task, row, index)
        except CorrSteerError as error:
            found.append(str(error))
    return found


def _kept(task: Task, data: Path | None) -> list[_Parsed]:
    """The rows of this task, parsed."""
    check_scorer(task.scorer)
    parsed = [_parse(task, row, index) for index, row in enumerate(_rows(task, data))]
    kept = [entry for entry in parsed if entry is not None]
    if not kept:
        raise CorrSteerError(
            f"{known_as(data) if data else task.source} holds no row for the task {task.name}; see its description."
        )
    return kept


def _without_copies(parsed: list[_Parsed]) -> list[_Parsed]:
    """The first row of each prompt, in the order of the file; shifted rows come last in this."""
    order = sorted(range(len(parsed)), key=lambda i: (parsed[i].split == SHIFTED, i))
    firsts = drop_duplicates(parsed[i].draft.prompt for i in order)
    return [parsed[i] for i in sorted(order[first] for first in firsts)]


def _rows(task: Task, data: Path | None) -> Iterable[Row]:
    path = data or task.file
    if path is not None:
        return mapped(read_rows(Path(path)), task.columns, Path(path))
    if task.hub is None:
        raise CorrSteerError(f"The task {task.name} has no items of its own; give them with --data FILE.")
    return hub_rows(task.hub)


def _parse(task: Task, row: Row, index: int) -> _Parsed | None:
    try:
        draft = draft_of(task, row.fields, index)
        if draft is None:
            return None
        _check_target(task, draft)
        return _Parsed(row, draft, _split(row))
    except ValueError as error:
        where = row.where[0].upper() + row.where[1:]
        raise CorrSteerError(f"{where} {in_words(str(error), task.columns)}.") from error


def _check_target(task: Task, draft: Draft) -> None:
    if draft.target is None:
        if task.needs_target:
            raise ValueError(f"has no 'target', which the task {task.name} needs; add it")
        return
    problem = target_problem(task.scorer, draft.target, draft.choices)
    if problem:
        raise ValueError(f"has the target {repr(draft.target)[:80]}, {problem}")


def _split(row: Row) -> Split | None:
    if row.native:
        return None  # the hub's own splits are the task's to interpret
    name = row.fields.get("split")
    if name in (None, ""):
        return None
    split = _SPLIT_NAMES.get(str(name).strip().lower())
    if split is None:
        raise ValueError(f"has {name!r} as 'split'; write one of {', '.join((*SPLITS, SHIFTED))}, or leave it out")
    return split


def _divide(task: Task, parsed: list[_Parsed], seed: int) -> list[Item]:
    ids = _unique_ids(parsed)
    items = [_item(entry, name) for entry, name in zip(parsed, ids, strict=True)]
    fit = task.hub.fit if task.hub else ()
    test = task.hub.test if task.hub else ()
    for positions, pattern in (
        ([i for i, e in enumerate(parsed) if e.split is None and e.row.native and e.row.native in fit], FIT_ONLY),
        ([i for i, e in enumerate(parsed) if e.split is None and e.row.native not in (*fit, *test)], ALL_THREE),
    ):
        for i, item in zip(positions, assign([items[i] for i in positions], seed, pattern), strict=True):
            items[i] = item
    return items


def _item(entry: _Parsed, name: str) -> Item:
    draft = entry.draft
    # "test" stands for what is not yet assigned: it is what a published test set keeps.
    return Item(name, entry.split or "test", draft.prompt, draft.target, draft.choices, draft.group, draft.cluster)


def _unique_ids(parsed: list[_Parsed]) -> list[str]:
    """The rows' own ids where they are unique, else the place: "row-3", or "test-3" for the hub's third test row."""
    counts = Counter(entry.draft.id for entry in parsed)
    unique = {name for name, count in counts.items() if name and count == 1}
    taken = set(unique)
    ids: list[str] = []
    for entry in parsed:
        name = entry.draft.id
        if name not in unique:
            name = base = f"{entry.row.native or 'row'}-{entry.row.number}"
            again = 2
            while name in taken:  # another row calls itself "row-3", or a native split has several files
                name, again = f"{base}-{again}", again + 1
            taken.add(name)
        ids.append(name)
    return ids
