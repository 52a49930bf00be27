"""How much room uploads take, and which of them may go: never one that a run or a job still has to read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from corrsteer_core.base import presenting, uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.storage.deleting import wanted

MOST_IN_ALL = 1_000_000_000
"""Bytes that all uploads together may take."""
KEPT_DAYS = 30.0
"""Days that an upload is kept that nothing reads any more."""
_IN_HAND = 3600.0  # seconds in which an upload may still be on its way to its first run


def make_room(size: int) -> str:
    """Remove what nobody reads any more, for an upload of so many bytes; returns what was removed, in a sentence or "".

    What is older than KEPT_DAYS goes; younger ones too, the oldest first, where all would take more than MOST_IN_ALL.
    Raises CorrSteerError where what must stay leaves no room.
    """
    presenting.refuse("No file is taken")
    files = sorted(_kept())
    total = sum(bytes_ for _, bytes_, _ in files) + size
    removed, freed = 0, 0
    for changed, bytes_, path in files:
        age = time.time() - changed
        if (age > KEPT_DAYS * 86400 or (total > MOST_IN_ALL and age > _IN_HAND)) and not wanted(str(path)):
            uploads.remove(path)
            removed, freed, total = removed + 1, freed + bytes_, total - bytes_
    if total > MOST_IN_ALL:
        raise CorrSteerError(
            f"With this file, uploads would take {total:,} bytes; at most {MOST_IN_ALL:,} are kept: delete runs that you "
            f"no longer need, their files go with them."
        )
    if not removed:
        return ""
    what = "1 earlier upload" if removed == 1 else f"{removed} earlier uploads"
    return (
        f"To make room, {what} ({freed:,} bytes) that no run or job reads {'was' if removed == 1 else 'were'} removed."
    )


def _kept() -> Iterator[tuple[float, int, Path]]:
    """When each upload was last given, its size, and where it is."""
    for path in uploads.folder().glob("*/*"):
        try:
            about = path.stat()
        except OSError:  # another page removes it just now
            continue
        if path.is_file() and not path.parent.name.startswith("."):
            yield about.st_mtime, about.st_size, path
