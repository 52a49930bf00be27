"""How fast a run answered, and whose pace says how long another takes."""

from __future__ import annotations

import pytest

from corrsteer_core.storage.pace import ENOUGH, Pace, alike, pace
from corrsteer_core.storage.writing import Writer
from tests.made import fabricated


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))


def timed(samples: int | None, seconds: float | None) -> str:
    run = fabricated.make_run()
    with Writer(run) as store:
        store.query("UPDATE runs SET timed = ?, seconds = ?", [samples, seconds])
    return run


def test_a_rate_is_samples_over_seconds():
    found = pace(timed(200, 50.0))
    assert found == Pace(found.run, "SmolLM2-135M-Instruct", 1, 200, 50.0)
    assert found.rate == 4.0
    assert found.seconds_for(1000) == 250.0


@pytest.mark.parametrize(("samples", "seconds"), [(None, None), (ENOUGH - 1, 1.0), (100, 0.0)])
def test_too_few_samples_are_no_rate(samples, seconds):
    assert pace(timed(samples, seconds)) is None


def test_only_the_same_model_with_answers_of_the_same_length_says_something():
    found = [None, Pace("a", "m", 5, 20, 1.0), Pace("b", "m", 8, 20, 2.0), Pace("c", "m", 8, 20, 3.0)]
    assert alike(found, "m", 8) == found[2]
    assert alike(found, "m", 9) is None
    assert alike(found, "other", 8) is None
