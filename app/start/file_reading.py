"""An uploaded file, read for the page alone: nothing is kept of it on the disk until a run is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from corrsteer_core import tasks
from corrsteer_core.base import uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks import Task
from corrsteer_core.tasks.columns import Columns
from corrsteer_core.tasks.preview import Rows, Taken, suited, taken
from corrsteer_core.tasks.preview import rows_of as rows_in

FORGOTTEN = 1800.0  # seconds: a file may hold many samples, and nobody says when its tab is closed
LAX = "refusal"
"""A scorer that takes any target, and none, to see which there are."""


@dataclass(frozen=True)
class Upload:
    """A file as the browser gave it."""

    name: str
    id: str
    """Of this upload: another one for the same file chosen again."""
    content: Callable[[], bytes]


def rows_of(upload: Upload) -> Rows | str:
    """The columns and first rows, or in a sentence why there are none."""
    return _rows(upload.id, upload)


def taken_of(
    upload: Upload | None, scorer: str, columns: Columns, limit: int | None = None, shots: int = 0
) -> Taken | None:
    """What a run would take of the file."""
    return None if upload is None else _taken(upload.id, upload, scorer, columns, limit, shots)


def suited_to(upload: Upload, columns: Columns) -> str | None:
    """The scorer that the file's right answers are usual for; None where it has none."""
    found = taken_of(upload, LAX, columns)
    return suited(item.target for item in found.items) if found and not found.problems else None


def task_of(scorer: str) -> Task:
    """The task that a file with this scorer is, without the file."""
    return tasks.custom_task(scorer, Path("file"))


# Kept by the upload's id alone: what begins with an underscore is not looked at.


@st.cache_resource(max_entries=8, ttl=FORGOTTEN, show_spinner="Reading the file …")
def _rows(id: str, _upload: Upload) -> Rows | str:
    try:
        with uploads.passing(_upload.name, _upload.content()) as path:
            return rows_in(path)
    except CorrSteerError as error:
        return str(error)


@st.cache_resource(max_entries=6, ttl=FORGOTTEN, show_spinner="Checking every row …")
def _taken(id: str, _upload: Upload, scorer: str, columns: Columns, limit: int | None, shots: int) -> Taken:
    try:
        with uploads.passing(_upload.name, _upload.content()) as path:
            return taken(tasks.custom_task(scorer, path, columns=columns), limit=limit, shots=shots)
    except CorrSteerError as error:
        return Taken(problems=(str(error),))
