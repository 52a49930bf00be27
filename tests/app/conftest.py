"""What tests of several pages begin with."""

from pathlib import Path

import pytest

from tests.app import ready_runs


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a run in miniature whose model the app can load, in a cache of the test's own."""
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    monkeypatch.setenv("CORRSTEER_DTYPE", "float32")  # what the app loads is what tests/made/runs.py does
    return ready_runs.make_tiny_run()
