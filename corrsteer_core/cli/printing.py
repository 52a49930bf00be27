"""What commands print: results as JSON has them, or as tables and lines for reading; warnings on standard error."""

from __future__ import annotations

import json
import math
import sys
from datetime import datetime
from typing import Any

from corrsteer_core.base.formatting import probability
from corrsteer_core.base.terminal import message, printable


def say(text: str) -> None:
    """One line on standard error: whatever is in the text, it is short and does nothing to the terminal."""
    print(message(text), file=sys.stderr)


def show(result: Any, *, as_json: bool) -> None:
    """A command's result on standard output."""
    print(json.dumps(plain(result), allow_nan=False) if as_json else human(result), flush=True)


def plain(value: Any) -> Any:
    """Only what JSON knows: undefined numbers become null."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "item"):  # a NumPy number
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def human(result: Any) -> str:
    """A result for reading: a table for rows, a line per field for the rest; nothing in it acts on the terminal."""
    result = plain(result)
    return printable(_table(result) if isinstance(result, list) else "\n".join(_fields(result)))


def _fields(result: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{key}:", _table(value)]
        elif isinstance(value, dict) and value and all(isinstance(one, dict) for one in value.values()):
            rows = [{key: name, **scalars(one)} for name, one in value.items()]
            lines += ["", _table(rows)]
        elif isinstance(value, dict):
            lines += [f"{key}: " + ", ".join(f"{name} {_short(one, name)}" for name, one in value.items())]
        else:
            lines.append(f"{key}: {_short(value, key)}")
    return lines


def scalars(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if not isinstance(value, (dict, list))}


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "(none)"
    # Rows may have fields that others lack; what is nested is for --json.
    found = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in found if not any(isinstance(row.get(name), dict) for row in rows)]
    cells = [names, *([_short(row.get(name), name) for name in names] for row in rows)]
    cells = [[printable(cell, one_line=True) for cell in row] for row in cells]
    widths = [max(len(row[place]) for row in cells) for place in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def _short(value: Any, name: str) -> str:
    """A field for reading. Numbers keep their plain minus, so that they can be sorted and typed again."""
    if isinstance(value, float):
        return probability(value) if name in ("p", "q") or name.endswith("_p") else f"{value:.4g}"
    if isinstance(value, list):  # an interval, or sentences
        between = " " if any(isinstance(one, str) for one in value) else " to "
        return between.join(_short(one, name) for one in value) or "none"
    return "-" if value is None else str(value)
