"""From JSON to dataclasses, field by field: what is not of the declared type is refused, never made to fit."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def typed(kind: Any, body: Any) -> Any:
    """Build a dataclass from JSON.

    Raises TypeError for unknown fields and for values of another type than it declares, ValueError for what cannot be kept.
    """
    if not isinstance(body, dict):
        raise TypeError(f"{kind.__name__} must be an object, not {_shown(body)}")
    declared: dict[str, Any] = {one.name: one.type for one in fields(kind)}
    return kind(
        **{name: _value(f"{kind.__name__}.{name}", declared.get(name, ""), value) for name, value in body.items()}
    )


def _value(where: str, declared: str, value: Any) -> Any:
    """A field's value, if it is of the type that is declared for it; a whole number becomes a float where one is."""
    if declared == "str":
        return text(where, value)
    expected: Any = {"int": int, "float": (int, float), "bool": bool}.get(declared, object)
    if not isinstance(value, expected) or (isinstance(value, bool) and declared in ("int", "float")):
        raise TypeError(f"{where} must be {declared}, not {_shown(value)}")
    if declared != "float":
        return value
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{where} is too large for a number") from error


def text(where: str, value: Any) -> str:
    """Text that can be written to a file or a database. Raises TypeError and ValueError as `typed` does."""
    if not isinstance(value, str):
        raise TypeError(f"{where} must be str, not {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} has half a surrogate pair; write the character whole") from error
    return value


def _shown(value: Any) -> str:
    return repr(value)[:60]
