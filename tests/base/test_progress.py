"""How far long work is, and how long it still takes, against cases worked by hand."""

import json

import pytest

from corrsteer_core.base import progress
from corrsteer_core.base.progress import Reporter, part_of, seconds


class Clock:
    """A clock that the test sets."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def tell(clock, tmp_path):
    """Tells a reporter of two weighted stages at a time; what it wrote comes back."""
    file = tmp_path / "progress.json"
    report = Reporter([("reading", 30.0), ("trying", 10.0), ("measuring", 60.0)], file=file, quiet=True)

    def at(moment, stage, done, total):
        clock.now = 100.0 + moment
        report(stage, done, total)
        return json.loads(file.read_text())

    return at


def test_the_time_left_is_this_stages_and_that_of_those_to_come(tell):
    assert tell(0, "reading", 0, 100)["left"] is None, "no pace yet"
    half = tell(15, "reading", 50, 100)
    assert half["left"] == pytest.approx(15 + 70)  # one second a unit of weight
    assert half["share"] == pytest.approx(0.15)


def test_the_first_tokens_give_no_pace_unless_they_take_long(tell):
    tell(0, "measuring", 0, 1000)
    assert tell(6, "measuring", 5, 1000)["left"] is None  # reading the prompts took most of it
    assert tell(12, "measuring", 20, 1000)["left"] == pytest.approx(12 * 980 / 20)
    tell(20, "reading", 0, 1000)
    assert tell(41, "reading", 5, 1000)["left"] is not None


def test_a_stage_of_another_pace_than_its_weight_says_does_not_carry_the_others_away(tell):
    tell(0, "reading", 0, 100)
    tell(30, "reading", 100, 100)
    tell(30, "trying", 0, 10)
    slow = tell(60, "trying", 5, 10)  # six times as slow as its weight: 60 s in all
    assert slow["left"] == pytest.approx(30 + 60 * (30 + 60) / (30 + 10))


def test_what_was_done_before_an_interruption_gives_no_pace(tell):
    assert tell(0, "reading", 90, 100)["left"] is None
    later = tell(6, "reading", 95, 100)
    assert later["left"] == pytest.approx(6 + 70 * 12 / 3)  # 12 s for a tenth of a weight of 30
    assert tell(12, "reading", 100, 100)["left"] == pytest.approx(70 * 12 / 3)


def test_a_stage_that_was_finished_before_tells_nothing_of_the_others(tell):
    assert tell(0, "reading", 100, 100)["left"] is None
    tell(1, "trying", 0, 10)
    assert tell(6, "trying", 5, 10)["left"] == pytest.approx(5 + 60)


def test_the_last_stages_end_is_the_end(tell):
    tell(0, "measuring", 0, 4)
    assert tell(8, "measuring", 2, 4)["left"] == pytest.approx(8)
    done = tell(16, "measuring", 4, 4)
    assert (done["left"], done["share"]) == (0, 1)


def test_without_stages_the_time_left_is_that_of_the_work_at_hand(clock, tmp_path):
    report = Reporter(file=tmp_path / "p.json", quiet=True)
    report("sweeping", 0, 10)
    clock.now += 5
    report("sweeping", 1, 10)
    assert json.loads((tmp_path / "p.json").read_text()) == {
        "stage": "sweeping", "done": 1, "total": 10, "share": 0.1, "left": 45.0,
    }  # fmt: skip


def test_parts_follow_one_another_on_one_bar():
    reported = []
    first = part_of(lambda *one: reported.append(one), 0, 0.25, "measuring")
    second = part_of(lambda *one: reported.append(one), 0.25, 0.75, "measuring")
    first("a", 1, 2), first("a", 2, 2), second("b", 0, 3), second("b", 3, 3)
    assert reported == [("measuring", n, 1000) for n in (125, 250, 250, 1000)]


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (3600 * 2 + 300, "2 h 05 min")],
)
def test_a_duration_in_words(count, said):
    assert seconds(count) == said
