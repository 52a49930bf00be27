"""Made-up runs for page tests: each kind is written once a session, a test gets a copy of its folder.

A copy lies in a folder of its own, so what the app keeps in memory of another test's run is never taken for it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from corrsteer_core.storage import run_folder
from tests.made import fabricated
from tests.made import runs as tiny

CACHE = "CORRSTEER_CACHE"


def make_run(run: str = "sentiment-0fab1e00", **settings: object) -> str:
    """`fabricated.make_run`, from a copy."""
    return _copied(*_written(run, tuple(sorted(settings.items()))))


def make_tiny_run() -> str:
    """`tiny.make_run` of the tiny model that `tiny.load` has in memory, from a copy."""
    return _copied(*_written_tiny())


@cache
def _written(run: str, settings: tuple[tuple[str, object], ...]) -> tuple[Path, str]:
    return _elsewhere(lambda: fabricated.make_run(run, **dict(settings)))  # type: ignore[arg-type]


@cache
def _written_tiny() -> tuple[Path, str]:
    return _elsewhere(lambda: tiny.make_run(*tiny.load()))


def features_page() -> None:
    """The Features page as a script of its own, for AppTest."""
    import streamlit as st  # this function's text is run on its own

    from app.features import page as features
    from app.shared import components
    from corrsteer_core.storage import run_folder

    st.session_state.setdefault("current_run", next(iter(run_folder.run_names()), None))
    components.page_of(features.page)()


def _elsewhere(make: Callable[[], str]) -> tuple[Path, str]:
    """Make a run in a cache of its own; the folder it is in, and its name."""
    cache_folder = Path(tempfile.mkdtemp(prefix="corrsteer-ready-"))
    atexit.register(shutil.rmtree, cache_folder, ignore_errors=True)
    before = os.environ.get(CACHE)
    os.environ[CACHE] = str(cache_folder)
    try:
        name = make()
        return run_folder.runs_dir() / name, name
    finally:
        os.environ.pop(CACHE) if before is None else os.environ.update({CACHE: before})


def _copied(folder: Path, name: str) -> str:
    """Copy a run's folder into the cache of now; a run of this name that is there is replaced, as by its maker."""
    target = run_folder.runs_dir() / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target, copy_function=shutil.copy)  # with the time of now: the newest run is the last made
    return name
