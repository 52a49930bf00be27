"""Files that a user gives to the app, kept in the cache under names that can do no harm."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from corrsteer_core.errors import CorrSteerError
from corrsteer_core.paths import cache_dir

LARGEST = 50_000_000  # bytes


def keep_upload(name: str, content: bytes) -> Path:
    """Write an uploaded JSON or JSON-lines file to the cache and return its path; the same content is kept once.

    Of the name only letters, digits and hyphens stay. Raises CorrSteerError for an empty or too large file.
    """
    if not content.strip():
        raise CorrSteerError("The uploaded file is empty; it needs one JSON object per line.")
    if len(content) > LARGEST:
        raise CorrSteerError(f"The uploaded file has {len(content):,} bytes; at most {LARGEST:,} are taken.")
    stem = re.sub(r"[^a-z0-9]+", "-", re.split(r"[\\/]", name)[-1].partition(".")[0].lower()).strip("-")[:40] or "data"
    path = cache_dir() / "uploads" / hashlib.sha256(content).hexdigest()[:12] / f"{stem}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
