"""Runs that many tests begin with: each is made once a session, and copied into the cache of every test that asks."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path

import pytest

from corrsteer_core.storage.run_folder import runs_dir

_made: dict[Hashable, Path] = {}
"""By what was asked for: the folder of the run."""


@cache
def _home() -> Path:
    """Where the runs lie that copies are taken of; it goes when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="corrsteer-made-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def copied(asked: Hashable, make: Callable[[], str]) -> str:
    """Name of the run that `make` writes into the cache of the moment; from the second time on it is a copy.

    A run of that name that lies there already is replaced, as by making it again.
    """
    if asked not in _made:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CORRSTEER_CACHE", str(_home() / str(len(_made))))
            _made[asked] = runs_dir() / make()
    run = _made[asked].name
    put(_made[asked], runs_dir() / run)
    return run


def put(source: Path, folder: Path) -> None:
    """Copy the files of a run, each at once, so that nobody who reads meanwhile meets half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        half = folder / f"{file.name}.half"
        shutil.copyfile(file, half)  # changed now: the newest run is the one made last
        os.replace(half, folder / file.name)
