"""What most tests of this room begin with."""

import pytest

from tests.made import runs as tiny


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def loaded():
    """The tiny model with its SAEs, as they are loaded from their folders."""
    return tiny.load()
