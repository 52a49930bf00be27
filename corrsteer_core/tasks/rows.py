"""Reading rows from JSON lines, CSV and Parquet, plain or gzipped, with the place of each for error messages.

Knows files, not tasks: what a row means is the parser's business.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.uploads import known_as

JSON_KINDS = (".jsonl", ".json", ".ndjson")
KINDS = (*JSON_KINDS, ".csv", ".parquet")
LARGEST = 2_000_000_000  # bytes of a file, unpacked: a small one can unpack to more than memory holds


@dataclass(frozen=True)
class Row:
    """One row of a file. `number` counts from 1: the line for text files, the row for Parquet."""

    fields: Mapping[str, Any]
    number: int
    where: str
    """ "line 3 of items.jsonl", for messages."""
    native: str = ""
    """The hub's own split; "" for local files."""


def kind_of(path: Path) -> str:
    """The extension that says the format, `.gz` aside. Raises CorrSteerError for any other."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind not in KINDS:
        found = f"ends in {path.suffix!r}" if path.suffix else "has no extension"
        raise CorrSteerError(
            f"The data file {known_as(path)} {found}; give JSON lines (.jsonl), CSV (.csv) or Parquet (.parquet), or .gz of one."
        )
    return kind


def read_rows(path: Path) -> list[Row]:
    """Every row of a file, blank lines left out. Raises CorrSteerError if it cannot be read or holds none."""
    if path.is_dir():
        raise CorrSteerError(f"{path} is a folder; give one file of items (.jsonl, .csv or .parquet).")
    if not path.exists():
        raise CorrSteerError(f"There is no data file {path}; check the path.")
    kind = kind_of(path)
    blob = _read_bytes(path)
    rows = list(_parquet(blob, path) if kind == ".parquet" else _text_rows(_decode(blob, path), kind, path))
    if not rows:
        raise CorrSteerError(f"The data file {known_as(path)} holds no rows; put at least one item into it.")
    return rows


def _read_bytes(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            blob = file.read(LARGEST + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorrSteerError(
            f"The data file {known_as(path)} is not a whole gzip file ({error}); compress it again."
        ) from error
    except OSError as error:
        raise CorrSteerError(f"The data file {known_as(path)} cannot be read: {error.strerror or error}.") from error
    if len(blob) > LARGEST:
        raise CorrSteerError(f"The data file {known_as(path)} has more than {LARGEST:,} bytes; give a part of it.")
    return blob


def _decode(blob: bytes, path: Path) -> str:
    try:
        return blob.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = blob.count(b"\n", 0, error.start) + 1
        raise CorrSteerError(
            f"The data file {known_as(path)} is not UTF-8 text (byte 0x{blob[error.start]:02x} on line {line}); save it as "
            f"UTF-8."
        ) from error


def _text_rows(text: str, kind: str, path: Path) -> Iterator[Row]:
    if kind == ".csv":
        return _csv(text, path)
    if kind == ".json" and text.lstrip().startswith("["):
        return _json_array(text, path)
    return _json_lines(text, path)


def _json_lines(text: str, path: Path) -> Iterator[Row]:
    # Not splitlines(): JSON strings may hold U+2028 and its like as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"line {number} of {known_as(path)}"
            yield Row(_mapping(_json(line, where), where), number, where)


def _json_array(text: str, path: Path) -> Iterator[Row]:
    for number, value in enumerate(_json(text, known_as(path)), start=1):
        where = f"row {number} of {known_as(path)}"
        yield Row(_mapping(value, where), number, where)


def _json(text: str, where: str) -> Any:
    try:
        # NaN and its like are no JSON, but what pandas writes for a missing value.
        return json.loads(text, parse_constant=lambda _name: None)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error).partition(";")[0]
        raise CorrSteerError(f"{_capital(where)} is not valid JSON ({reason}); fix or remove it.") from error


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise CorrSteerError(
            f'{_capital(where)} is not a JSON object but a {type(value).__name__}; write {{"prompt": ...}}.'
        )
    return value


def _csv(text: str, path: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        start = 2
        for fields in reader:
            where = f"line {start} of {known_as(path)}"
            if None in fields or None in fields.values():
                raise CorrSteerError(
                    f"{_capital(where)} has more or fewer values than the header; quote values with commas."
                )
            yield Row({key: value or None for key, value in fields.items()}, start, where)
            start = reader.line_num + 1  # a quoted value may span lines
    except csv.Error as error:
        raise CorrSteerError(
            f"Line {reader.line_num} of {known_as(path)} is not valid CSV ({error}); fix it."
        ) from error


def _parquet(blob: bytes, path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(blob)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CorrSteerError(
            f"The data file {known_as(path)} is not a readable Parquet file ({reason}); write it again."
        ) from error
    for number, fields in enumerate(table, start=1):
        yield Row(fields, number, f"row {number} of {known_as(path)}")


def _capital(where: str) -> str:
    # A path stays as it is: only our own words begin the sentence.
    return where[0].upper() + where[1:] if where.startswith(("line ", "row ")) else f"The data file {where}"
