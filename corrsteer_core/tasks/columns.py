"""Which column of a user's file holds what of an item, where it is not called so: `prompt=question,target=answer`.

Knows rows and names, not tasks: a row whose columns are mapped is read as if its file had our names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.uploads import known_as
from corrsteer_core.tasks.hints import close_match
from corrsteer_core.tasks.rows import Row

FIELDS = ("prompt", "target", "choices", "split", "group", "id", "cluster")
"""What a row may hold, the only one that it must first (see `parse.verbatim`)."""
USUAL = {
    "prompt": ("question", "input", "instruction", "text", "query", "sentence"),
    "target": ("answer", "label", "output", "response", "completion", "expected"),
    "choices": ("options",),
    "group": ("subject", "category", "topic"),
    "cluster": ("template",),
}
"""What others call these, likeliest first."""
NONE = ""
"""In place of a column: the field is left out, although the file has a column of its name."""
SHOWN = 8  # names in an error message

Columns = tuple[tuple[str, str], ...]
"""(field, column) each, in the order of FIELDS; a field that is not named has the column of its own name."""

_NEXT = re.compile(rf",(?=\s*(?:{'|'.join(FIELDS)})\s*=)")


def as_columns(named: Mapping[str, str]) -> Columns:
    """Columns by field, checked. Raises CorrSteerError for a field that no item has."""
    if unknown := [field for field in named if field not in FIELDS]:
        raise CorrSteerError(
            f"There is no field {unknown[0][:80]!r} of a sample{close_match(unknown[0], FIELDS)}; columns can be named for "
            f"{', '.join(FIELDS)}."
        )
    return tuple((field, named[field]) for field in FIELDS if named.get(field, field) != field)


def read(given: str) -> Columns:
    """Columns as they are written on a command line: "prompt=question,target=answer", or a JSON object of the same.

    "split=" leaves a column of that name out. Raises CorrSteerError for anything else.
    """
    if given.lstrip().startswith("{"):
        return as_columns(_object(given))
    pairs = [part.partition("=") for part in _NEXT.split(given)]
    if any(not equals for _, equals, _ in pairs):
        raise CorrSteerError(f"{given[:80]!r} does not name columns; write them like prompt=question,target=answer.")
    return as_columns({field.strip(): column.strip() for field, _, column in pairs})


def _object(given: str) -> dict[str, str]:
    try:
        found = json.loads(given)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(column, str) for column in found.values()):
        raise CorrSteerError(
            f'{given[:80]!r} is not a JSON object of texts; write columns like {{"prompt": "question"}}.'
        )
    return found


def written(columns: Columns) -> str:
    """What `read` makes these columns of: in the short form where the names allow it, else as JSON."""
    short = ",".join(f"{field}={column}" for field, column in columns)
    try:
        if read(short) == columns:
            return short
    except CorrSteerError:
        pass
    return json.dumps(dict(columns))


def mapped(rows: Sequence[Row], columns: Columns, path: Path) -> list[Row]:
    """The rows of a file with each field taken from its column. Raises CorrSteerError where no row has that column."""
    for field, column in columns:
        if column != NONE and not any(column in row.fields for row in rows):
            raise CorrSteerError(
                f"The data file {known_as(path)} has no column {column[:80]!r} for the {field}"
                f"{close_match(column, names(rows))}; its columns are {_listed(names(rows))}."
            )
    return [replace(row, fields={**row.fields, **_taken(row, columns)}) for row in rows] if columns else list(rows)


def _taken(row: Row, columns: Columns) -> dict[str, object]:
    return {field: row.fields.get(column) if column != NONE else None for field, column in columns}


def names(rows: Iterable[Row]) -> list[str]:
    """The columns of a file, in the order in which they come up."""
    return list(dict.fromkeys(str(name) for row in rows for name in row.fields))


def _listed(found: Sequence[str]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(repr(name[:80]) for name in found[:SHOWN]) + more


def in_words(problem: str, columns: Columns) -> str:
    """What is wrong with a row, with fields called as the user's file calls them too."""
    for field, column in columns:
        if column != NONE:
            problem = problem.replace(f"no {field!r}", f"no {field!r} (column {column[:80]!r})")
            problem = problem.replace(f"as {field!r}", f"as {field!r} (column {column[:80]!r})")
    return problem


def guessed(found: Sequence[str]) -> dict[str, str]:
    """For each field the column of its name, else of a usual name, capitals aside; a field without either is left out."""
    by_name = {name.strip().casefold(): name for name in reversed(found)}
    known = {
        field: next((by_name[one] for one in (field, *USUAL.get(field, ())) if one in by_name), None)
        for field in FIELDS
    }
    return {field: name for field, name in known.items() if name is not None}
