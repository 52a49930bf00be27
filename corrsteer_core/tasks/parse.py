"""Taking values out of rows, and the two shapes that rows come in: a task's own, or a bare prompt.

Every problem is a ValueError that goes on after "line 3 of FILE", so that the loader says where.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from corrsteer_core.tasks.base import LETTERS, Draft, Task

LETTER_ONLY = "Answer with the letter of the right choice only."


def text(row: Mapping[str, Any], name: str) -> str:
    """A field that must hold text. Numbers become text, as CSV would have it."""
    value = row.get(name)
    if isinstance(value, str):
        _check_encodable(value, name)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"has no {name!r}; add it or remove the row")
    if not isinstance(value, str | int | float):
        raise ValueError(f"has a {type(value).__name__} as {name!r}; write it as text")
    return str(value)


def optional(row: Mapping[str, Any], name: str) -> str:
    """A field as text, "" where it is missing."""
    value = row.get(name)
    if value is None:
        return ""
    _check_encodable(str(value), name)
    return str(value)


def _check_encodable(value: str, name: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"has half a surrogate pair in {name!r}; write the character whole") from error


def sequence(row: Mapping[str, Any], name: str) -> list[str]:
    """A field that must hold a list of at least two texts; CSV holds it as JSON or as Python prints it."""
    value = row.get(name)
    if isinstance(value, str):
        value = _literal(value)
    if not isinstance(value, Sequence) or len(value) < 2:
        raise ValueError(f"""has no list of at least two texts as {name!r}; write it like ["first", "second"]""")
    for entry in value:
        _check_encodable(str(entry), name)
    return [str(entry) for entry in value]


def _literal(value: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def letter_of(value: Any, count: int, name: str) -> str:
    """The letter of a right choice given as index (0 is A) or as letter, checked against the number of choices."""
    letters = LETTERS[:count]
    found = str(value).strip()
    if isinstance(value, float) and value.is_integer():
        found = str(int(value))  # a column of numbers with a gap comes out of Parquet as floats
    if found.isdecimal() and len(found) <= len(str(len(LETTERS))) and int(found) < count:
        return letters[int(found)]
    if len(found) == 1 and found.upper() in letters:
        return found.upper()
    raise ValueError(f"has {repr(value)[:80]} as {name!r}, which names none of its {count} choices (0 to {count - 1})")


def multiple_choice(question: str, options: Sequence[str], *, instruction: str = "") -> str:
    """The one layout of every multiple-choice prompt: question, lettered choices, "Answer:"."""
    if len(options) > len(LETTERS):
        raise ValueError(f"has {len(options)} choices; at most {len(LETTERS)} have a letter")
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    head = f"{instruction}\n\n" if instruction else ""
    return "\n".join([f"{head}{question}", *lines, "Answer:"])


def plain_prompt(row: Mapping[str, Any], index: int) -> Draft:
    """Parser for rows that are just a prompt (refusal, over-refusal)."""
    return Draft(text(row, "prompt"), group=optional(row, "topic"), id=optional(row, "id"))


def draft_of(task: Task, row: Mapping[str, Any], index: int) -> Draft | None:
    """A row in the task's own shape through its parser, a row with a bare `prompt` as it stands."""
    own = all(row.get(name) is not None for name in task.fields)
    if own and ("prompt" in task.fields or row.get("prompt") is None):
        return task.parse(row, index)
    if row.get("prompt") is None and "prompt" not in task.fields:
        raise ValueError(f"has no 'prompt' (nor {task.name}'s own fields {', '.join(task.fields)}); add it")
    return verbatim(row, index)


def verbatim(row: Mapping[str, Any], index: int) -> Draft:
    """A row used as it is: `prompt`, and where present `target`, `choices`, `group`, `id`, `cluster`."""
    target = text(row, "target") if row.get("target") not in (None, "") else None
    choices = tuple(sequence(row, "choices")) if row.get("choices") not in (None, "") else ()
    if choices and target is not None and target not in choices:
        target, choices = _among(target, choices)
    group, own_id, cluster = (optional(row, name) for name in ("group", "id", "cluster"))
    return Draft(text(row, "prompt"), target, choices, group, own_id, cluster)


def _among(target: str, choices: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Target and choices where the target is not one of them as it stands."""
    if all(len(choice) == 1 and choice in LETTERS for choice in choices):
        same = [choice for choice in choices if choice.upper() == target.strip().upper()]
        if not same:
            raise ValueError(
                f"has the target {target!r}, which is not one of its choices {', '.join(choices)}; use one of them"
            )
        return same[0], choices
    # Choices given as texts and the target as a letter: constrained decoding chooses the letter.
    return letter_of(target, len(choices), "target"), tuple(LETTERS[: len(choices)])
