"""A feature's page on a tiny model that is really read: what the model says of it stands on the page."""

from __future__ import annotations

import gc
import html
import threading
import time
import weakref

import pytest
from streamlit.testing.v1 import AppTest

from app.features import drawing
from app.shared import components
from corrsteer_core.base.progress import Progress
from corrsteer_core.base.text_diff import visible
from corrsteer_core.inspection import feature_profile
from tests.app import ready_runs
from tests.made import runs as tiny

LAYER, FEATURE = 1, 3
HOSTILE = "<img src=x onerror=alert(1)> seen \u202e"


def opened(run: str) -> AppTest:
    """The page of the feature, once the model has read it."""
    test = AppTest.from_function(ready_runs.features_page, default_timeout=600)
    test.query_params["layer"], test.query_params["feature"] = str(LAYER), str(FEATURE)
    test.run()
    assert drawing.profile(run, LAYER, FEATURE).wait(600)
    test.run()
    assert not test.exception
    assert not test.error
    return test


def shown(test: AppTest) -> str:
    return html.unescape("\n".join(str(one.proto.body) for one in test.get("html")))


def button(test: AppTest, label: str):
    return next(one for one in test.button if one.label == label)


def words(test: AppTest) -> str:
    kinds = ("markdown", "caption", "subheader")
    return "\n".join(str(one.value) for kind in kinds for one in test.get(kind)).replace("\\", "")


def values(activations) -> list[float]:
    """The activation of every piece of a text."""
    return [activations.value(span) for span in activations.spans]


def test_what_the_model_says_of_a_feature_stands_on_its_page(run):
    model, saes = tiny.load()
    drawn = feature_profile.profile_of(run, LAYER, FEATURE, model, saes)
    test = opened(run)
    body = shown(test)
    for one in (*drawn.tokens.promoted, *drawn.tokens.suppressed):
        assert components.signed(one.score) in body
    frames = [one.value for one in test.dataframe]
    tokens = next(frame for frame in frames if "token" in frame and "score" in frame)
    assert tokens["score"].tolist()[: len(drawn.tokens.promoted)] == [one.score for one in drawn.tokens.promoted]
    labels = [one.label for one in test.button]
    for one in (*drawn.within, *drawn.elsewhere):
        assert f"{one.layer} · {one.feature}  ({one.cosine:.2f})" in labels
        first = next(text.strip() for text in one.promotes if text.strip())
        assert f"“{visible(first)}”" in words(test)
    strongest = drawn.samples[0]
    assert f"{strongest.stored:.2f}" in body
    table = next(frame for frame in frames if "activation" in frame)
    assert table["activation"].tolist() == pytest.approx(values(strongest.activations), abs=1e-4)
    assert drawn.guess in words(test)


def test_a_text_of_ones_own_is_read_token_by_token_and_shown_as_text(run):
    model, saes = tiny.load()
    test = opened(run)
    test.text_area(key="own_prompt").set_value(HOSTILE)
    test.text_input(key="own_answer").set_value(HOSTILE)
    next(one for one in test.button if one.label == "Read it").click().run()
    _, work = test.session_state["own_text"]
    assert work.wait(600)
    test.run()
    assert not test.exception
    assert "<img" not in "\n".join(str(one.proto.body) for one in test.get("html"))
    expected = feature_profile.own_text(run, LAYER, FEATURE, HOSTILE, HOSTILE, model, saes)
    tables = [one.value["activation"].tolist() for one in test.dataframe if "activation" in one.value]
    assert tables[-1] == pytest.approx(values(expected), abs=1e-4)


def test_an_empty_text_of_ones_own_is_answered_in_words(run):
    test = opened(run)
    next(one for one in test.button if one.label == "Read it").click().run()
    assert "The prompt is empty" in test.error[0].value


class Pieces:
    """Work of two pieces that begins and goes on when it is let."""

    def __init__(self) -> None:
        self.loaded, self.begun, self.let = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, bench: object, progress: Progress) -> str:
        self.loaded.wait(600)
        progress("reading", 0, 2)
        self.begun.set()
        self.let.wait(600)
        progress("reading", 1, 2)
        return "drawn"


def test_work_is_cancelled_at_once_while_loading_and_else_before_its_next_piece():
    pieces = Pieces()
    work = drawing.Work(None, pieces)
    work.cancel()
    assert work.wait(0)
    pieces.loaded.set()
    assert (work.result, work.problem, pieces.begun.wait(0.2)) == (None, drawing.CANCELLED, False)
    work = drawing.Work(None, pieces)
    assert pieces.begun.wait(600)
    assert work.stage == "Reading, 0 of 2"
    work.cancel()
    assert (work.stage, work.wait(0)) == ("Stopping", False)
    pieces.let.set()
    assert work.wait(600)
    assert (work.result, work.problem) == (None, drawing.CANCELLED)


def test_a_profile_that_is_being_drawn_says_how_far_it_is_and_can_be_cancelled(run, monkeypatch):
    pieces, work = Pieces(), drawing.Work
    pieces.loaded.set()
    monkeypatch.setattr(drawing, "Work", lambda bench, do: work(bench, pieces))
    test = AppTest.from_function(ready_runs.features_page, default_timeout=600)
    test.query_params["layer"], test.query_params["feature"] = str(LAYER), str(FEATURE)
    test.run()
    assert pieces.begun.wait(600)
    test.run()
    assert "Reading, 0 of 2 … Tokens and texts follow here." in words(test)
    button(test, "Cancel").click().run()
    pieces.let.set()
    assert drawing.profile(run, LAYER, FEATURE).wait(600)
    test.run()
    assert not test.exception
    assert drawing.CANCELLED in test.error[0].value.replace("\\", "")
    monkeypatch.setattr(drawing, "Work", work)
    button(test, "Try again").click().run()
    assert "Cancel" in [one.label for one in test.button] or "What it makes the model say" in words(test)


def test_a_profile_that_nobody_looks_at_is_given_up_and_begun_anew(run, monkeypatch):
    about = run, LAYER, FEATURE
    monkeypatch.setattr(drawing, "UNATTENDED", -1.0)
    left = drawing.profile(*about)
    assert left.wait(600)
    assert left.left
    assert left.result is None
    monkeypatch.setattr(drawing, "UNATTENDED", 60.0)
    again = drawing.profile(*about)
    assert again.wait(600)
    assert again.result.samples


def test_others_come_to_the_model_between_two_pieces_of_a_profile(run, monkeypatch):
    bench = drawing.models.bench(run)
    let: list[bool] = []
    monkeypatch.setattr(bench, "give_way", lambda: let.append(bench.lock.locked()))
    assert drawing.profile(run, LAYER, FEATURE).wait(600)
    assert len(let) > 2
    assert all(let)


def test_what_is_kept_of_a_profile_keeps_no_model_in_memory():
    class Bench:
        pass

    bench = Bench()
    model = weakref.ref(bench)
    work = drawing.Work(bench, lambda bench, progress: "drawn")
    assert work.wait(600)
    del bench
    until = time.monotonic() + 600
    while model() is not None and time.monotonic() < until:  # until the thread is gone too
        gc.collect()
        time.sleep(0.01)
    assert model() is None
    assert work.result == "drawn"
