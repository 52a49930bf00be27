"""Where the runs lie: one folder each, with one DuckDB file that everybody reads."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import cache_dir

PUBLISHED = "run.duckdb"


def runs_dir() -> Path:
    """Folder of all runs."""
    return cache_dir() / "runs"


def run_path(run: str) -> Path:
    """Folder of a run. Raises CorrSteerError for a name that no run can have or that is not cached."""
    folder = runs_dir() / run
    if not run or run != Path(run).name or run.startswith(".") or not folder.is_dir():
        known = ", ".join(run_names()[:5]) or "none"
        raise CorrSteerError(f"There is no run {run!r} in {runs_dir()}; cached are: {known}.")
    return folder


def is_cached(run: str) -> bool:
    """Whether there is such a run."""
    try:
        run_path(run)
    except CorrSteerError:
        return False
    return True


def run_names() -> list[str]:
    """Names of the cached runs, newest first."""
    found = []
    for path in runs_dir().glob(f"*/{PUBLISHED}"):
        if not path.parent.name.startswith("."):  # of one that is being removed
            with suppress(OSError):  # removed just now
                found.append((path.parent.stat().st_mtime, path.parent.name))
    return [name for _, name in sorted(found, reverse=True)]


def database_path(run: str) -> Path:
    """The file to read a run from."""
    return run_path(run) / PUBLISHED


def measured_sets(run: str) -> Path:
    """Folder of the sets of a run that were handed to jobs as files."""
    return cache_dir() / "sets" / run
