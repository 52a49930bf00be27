"""Arrays of any shape and type as the content of a Parquet file, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from corrsteer_core.workers.parts import as_parquet, from_parquet

_SCHEMA = pa.schema(
    [
        ("part", pa.int32()),
        ("name", pa.string()),
        ("type", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("data", pa.large_binary()),
    ]
)


def encode(parts: Sequence[Mapping[str, np.ndarray]]) -> bytes:
    """A Parquet file with a row per array."""
    rows = [
        {"part": part, "name": name, "type": one.dtype.str, "shape": one.shape, "data": one.tobytes()}
        for part, named in enumerate(parts)
        for name, one in named.items()
    ]
    return as_parquet(pa.Table.from_pylist(rows, schema=_SCHEMA))


def decode(data: bytes) -> list[dict[str, np.ndarray]]:
    """The arrays that `encode` wrote, by name, part by part."""
    parts: dict[int, dict[str, np.ndarray]] = {}
    for row in from_parquet(data).to_pylist():
        array = np.frombuffer(row["data"], dtype=row["type"]).reshape(row["shape"]).copy()
        parts.setdefault(row["part"], {})[row["name"]] = array
    return [parts[part] for part in sorted(parts)]
