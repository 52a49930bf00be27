"""Removing a run and what is kept for it alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from corrsteer_core.base import jobs, presenting, uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import remove_folder
from corrsteer_core.storage.database import locked
from corrsteer_core.storage.reading import query
from corrsteer_core.storage.run_folder import measured_sets, run_names, run_path


def delete_run(run: str) -> None:
    """Remove a run and all that is kept for it alone. Raises CorrSteerError while it is being written."""
    presenting.refuse("The run is not deleted")
    folder = run_path(run)
    data = _data(run)
    lock = locked(folder)
    try:
        remove_folder(folder)
    finally:
        lock.release()
    shutil.rmtree(measured_sets(run), ignore_errors=True)
    if data and not wanted(data):
        uploads.remove(Path(data))


def wanted(data: str) -> bool:
    """Whether another run, or a job that may yet make one, has this file of samples; a run that cannot be read may."""
    end = str(Path(*Path(data).parts[-2:]))  # links may lead to the rest in several ways
    asked = (part for job in jobs.jobs() if job.state != "finished" for part in job.arguments)
    return any(end in part for part in asked) or any(_data(run) in (data, None) for run in run_names())


def _data(run: str) -> str | None:
    """The file of samples that a run is made from, "" for none; None where the run cannot be read."""
    try:
        found = query(run, "SELECT config->>'data' AS data FROM runs")["data"]
    except CorrSteerError:
        return None
    return str(found[0]) if len(found) else ""
