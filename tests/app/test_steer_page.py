"""The Steer page on a tiny model that really answers: what is edited, what is asked, and what is shown of it."""

from __future__ import annotations

import base64
import json
import re
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.shared import components, resources
from app.steer import editing, snapshot
from app.steer.answers import answers_panel, task_sample
from app.steer.chat import Turn
from app.steer.playing import LOADING, Playing, Question
from app.steer.sets import set_rows
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.evaluation.measure import evaluate_set
from corrsteer_core.inspection import descriptions, playground, scale_strip, token_probabilities
from corrsteer_core.models.loading import Model
from corrsteer_core.runs import stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.steering_set import Firing, SteeringRow
from corrsteer_core.saes.sae import Sae
from corrsteer_core.storage import deleting
from corrsteer_core.storage.writing import PATIENCE, Writer
from corrsteer_core.tasks import get_task
from tests.app import ready_runs
from tests.app.steer_session import ask, button, current, generate, held, opened, reloaded, said, script, shown
from tests.made import runs as tiny

MAIN = str(Path(__file__).parents[2] / "app" / "main.py")
HOSTILE = "<script>alert(1)</script> **b** $x$ [l](javascript:1) \u202e\x07 https://x.evil x@x.evil </section>"


@pytest.fixture
def loaded() -> tuple[Model, list[Sae]]:
    return tiny.load()


@pytest.fixture
def run(loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    monkeypatch.setenv("CORRSTEER_DTYPE", "float32")  # what the app loads is what tests/made/runs.py does
    return ready_runs.make_tiny_run()


# --- the answers ---------------------------------------------------------------------------------


def test_without_a_run_the_page_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    assert "nothing to steer yet" in said(opened())


def test_both_texts_are_those_of_the_command_line(run, loaded):
    model, saes = loaded
    test = ask(opened(), "Tell me of the sea.")
    playing = generate(test)
    expected = playground.side_by_side(
        current(test, run), "Tell me of the sea.", max_new_tokens=60, model=model, saes=saes
    )
    assert playing.texts == expected
    assert expected[0] != expected[1]
    assert "cs-only-steered" in shown(test)
    assert "agree" in said(test) or "first word" in said(test)


def test_a_sample_of_the_task_is_scored_and_answered_at_the_length_of_the_run(run, loaded):
    test = opened()
    playing = generate(test)
    asked = playing.question
    config, items = stored_run.stored(run)
    item = next(item for item in items if item.id == asked.sample)
    assert (asked.prompt, asked.max_new_tokens) == (item.prompt, config.max_new_tokens)
    assert item.split == "test"
    scorer = stored_run.task_of(config).scorer
    assert playing.outcomes == tuple(scorer(text, item) for text in playing.texts)
    assert shown(test).count("success</span>") == 2
    assert f"Right answer: **{item.target}**" in said(test)
    assert "plain text" in said(test)


def test_a_run_of_longer_answers_than_usual_has_its_page_and_its_link(run, monkeypatch):
    config, items = stored_run.stored(run)
    config = replace(config, max_new_tokens=components.MOST_TOKENS + 1)
    monkeypatch.setattr(stored_run, "stored", lambda run: (config, items))
    test = opened()
    assert test.number_input(key=f"length-sample-{run}").value == 1001
    steering = current(test, run)
    asked = Question(steering, "", run, sample=items[0].id, max_new_tokens=1001)
    link = snapshot.Snapshot(steering, asked).to_link()
    assert snapshot.from_link(link, run, config).question == asked


@pytest.mark.parametrize(
    ("style", "words"),
    [
        (PromptStyle(chat=False), "as plain text to go on from, as when the features were found"),
        (PromptStyle(chat=True), "in its chat template, as the set has it; this run's features were found on plain text"),
        (PromptStyle(chat=False, shots=(("a", "b"),)), "the set's system prompt or examples differ"),
    ],
)  # fmt: skip
def test_how_a_sample_is_put_to_the_model_is_told_of_the_set(run, style, words):
    kept = stored_run.kept_sets(run)["A"]
    stored_run.keep_set(run, replace(kept, style=style), "A")
    assert words in said(opened())


def test_scale_zero_gives_the_unsteered_text(run):
    test = ask(opened(), "Tell me more.")
    held(test, "number_input", f"scale-{run}").set_value(0.0).run()
    playing = generate(test)
    assert playing.texts[0] == playing.texts[1]
    assert "identical" in said(test)


def test_several_scales_are_columns_and_zero_is_what_is_unsteered(run):
    test = ask(opened(), "Tell me more.")
    test.get_by_key(f"scales-{run}").set_value([0.5, 2.0]).run()
    playing = generate(test)
    assert playing.question.scales == (0.5, 1.0, 2.0)
    assert shown(test).count("<section") == 4
    assert "Steered, scale 0.5" in shown(test)
    for own, scales in ((3.0, (0.5, 2.0, 3.0)), (2.0, (0.5, 2.0))):  # what was chosen stays, its own scale counts once
        held(test, "number_input", f"scale-{run}").set_value(own).run()
        assert test.session_state["desks"][run].question.scales == scales


def strip(test: AppTest) -> Playing:
    """The answers at several scales."""
    return generate(test, "At several scales")


def test_one_click_answers_at_several_scales_and_says_from_which_on_the_text_differs(run, loaded):
    model, saes = loaded
    test = ask(opened(), "Tell me of the sea.")
    assert "answers side by side at scales −1, 0.5, 1, 2, 4, and says from which on the text differs." in said(test)
    playing = strip(test)
    steering = current(test, run)
    expected = [
        playground.side_by_side(steering, "Tell me of the sea.", scale=scale, model=model, saes=saes)
        for scale in (-1.0, 0.5, 1.0, 2.0, 4.0)
    ]
    assert playing.texts == (expected[0][0], *(steered for _, steered in expected))
    titles = re.findall(r'class="cs-title">(.*?)<', shown(test))
    scales = [f"Steered, scale {one}" for one in ("0.5", "1", "2", "4")]
    assert titles == ["Steered, scale −1", "Unsteered", *scales]
    by_scale = dict(zip((-1.0, 0.5, 1.0, 2.0, 4.0), playing.texts[1:], strict=True))
    assert scale_strip.differing(playing.texts[0], by_scale) in said(test)
    assert "Something has changed" not in said(test)


def test_token_by_token_says_which_of_several_answers_are_compared(run):
    test = ask(opened(), "Tell me of the sea.")
    playing = strip(test)
    test.toggle(key="token_by_token").set_value(True).run()
    for chosen, other in (("Unsteered", "−1"), ("Steered, scale −1", "−1"), ("Steered, scale 4", "4")):
        test.segmented_control(key="token_answer-6").set_value(chosen).run()
        place = {"−1": 1, "4": 5}[other]
        parts = token_probabilities.parts_at(playing.tokens[0], playing.tokens[place])
        where = "have the same tokens." if parts is None else f"part at token {parts + 1}."
        assert f"The answers “Unsteered” and “Steered, scale {other}” {where}" in said(test)
        assert "The two answers" not in "".join(one.value for one in test.markdown)


def test_the_strip_goes_with_the_scale_of_the_set_and_a_change_of_the_set_is_told(run):
    test = ask(opened(), "Tell me of the sea.")
    held(test, "number_input", f"scale-{run}").set_value(3.0).run()
    assert strip(test).question.scales == (-3.0, 1.5, 3.0, 6.0, 12.0)
    held(test, "number_input", f"scale-{run}").set_value(2.0).run()
    assert "Something has changed since these answers" in said(test)


def test_a_strip_survives_a_reload_as_other_answers_do(run):
    test = ask(opened(), "Tell me of the sea.")
    playing = strip(test)
    again = reloaded(test)
    assert again.session_state["playing"] is playing
    assert re.findall(r'class="cs-title">(.*?)<', shown(again))[:2] == ["Steered, scale −1", "Unsteered"]
    assert scale_strip.differing(
        playing.texts[0], dict(zip(playing.question.scales, playing.texts[1:], strict=True))
    ) in said(again)


def test_an_unrelated_click_leaves_the_answers_as_they_are(run):
    test = ask(opened(), "Tell me more.")
    first = generate(test)
    html = shown(test)
    held(test, "number_input", f"scale-{run}").set_value(3.0).run()
    assert test.session_state["playing"] is first
    assert shown(test) == html
    assert "Something has changed since" in said(test)


def test_the_same_seed_gives_the_same_texts_and_another_seed_others(run):
    test = ask(opened(), "Tell me more.")
    test.slider(key="temperature").set_value(1.0).run()
    texts = []
    for seed in (1, 1, 2):
        test.number_input(key="seed").set_value(seed).run()
        texts.append(generate(test).texts)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("pressed", ["Generate", "At several scales"])
def test_cancelling_keeps_what_was_written_and_leaves_the_model_unhooked(run, loaded, pressed):
    test = ask(opened(), "Tell me more.")
    test.number_input(key=f"length-typed-{run}").set_value(200).run()
    playing = None
    button(test, pressed).click().run()
    playing = test.session_state["playing"]
    playing.cancel()
    assert playing.wait(600)
    test.run()
    assert playing.cancelled
    assert playing.steps < 200
    assert "Stopped after" in said(test)
    assert "The text differs" not in said(test)
    net = playing._bench.model().net
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


class SlowBench:
    """A bench on which loading lasts until `there` is set."""

    name = "slow"
    problem = ""

    def __init__(self, stage: str) -> None:
        self.there = threading.Event()
        self.lock = threading.Lock()
        self.asked: list[str] = []
        self._slow = stage

    def model(self) -> None:
        self._load(LOADING[0])

    def saes(self, refs: object) -> None:
        self._load(LOADING[1])

    def _load(self, stage: str) -> None:
        self.asked.append(stage)
        if stage == self._slow:
            self.there.wait(600)


@pytest.mark.parametrize("stage", LOADING)
def test_cancelling_does_not_wait_for_what_is_being_loaded(run, stage):
    bench = SlowBench(stage)
    before = set(threading.enumerate())
    playing = Playing(Question(stored_run.kept_sets(run)["A"], "Why?", run), bench)
    while stage not in bench.asked:
        assert not playing.wait(0.01)
    playing.cancel()
    assert playing.wait(0)
    test = opened(playing=playing)
    assert not button(test, "Generate").disabled
    assert "Stopped before anything was written" in said(test)
    bench.there.set()
    for thread in set(threading.enumerate()) - before:
        if thread.name == "generating":
            thread.join(600)
    assert (bench.asked[-1], playing.texts, playing.problem) == (stage, (), "")


def test_cancelling_what_has_ended_changes_nothing(run):
    playing = generate(ask(opened(), "Tell me more."))
    playing.cancel()
    assert not playing.cancelled


def test_an_answer_that_ends_while_the_page_is_drawn_gives_generate_back(run, monkeypatch):
    test = ask(opened(), "Tell me more.")
    generate(test)
    answers, ended = answers_panel._answers, []
    monkeypatch.setattr(Playing, "running", property(lambda self: not ended))
    monkeypatch.setattr(answers_panel, "_answers", lambda: (ended.append(True), answers()))
    answers_panel._answers.__name__ = answers.__name__
    answers_panel._answers.__qualname__ = answers.__qualname__
    test.run()
    assert not test.exception
    assert not button(test, "Generate").disabled
    assert "Cancel" not in [one.label for one in test.button]


def test_samples_that_look_alike_are_told_apart():
    long = "x" * 80
    prompts = [f"{long}a", f"{long}b", "the end", "the end", "the end (2)"]
    samples = pd.DataFrame({"prompt": prompts, "outcome": 1.0}, index=[f"row-{place}" for place in range(5)])
    labels = task_sample.labels(samples)
    assert list(labels) == list(samples.index)
    assert len(set(labels.values())) == 5


def test_two_tabs_generate_side_by_side_and_get_what_each_asked_for(run, loaded):
    model, saes = loaded
    tabs = [ask(opened(), prompt) for prompt in ("Tell me of cats.", "Tell me of dogs.")]
    for tab in tabs:
        button(tab, "Generate").click()
        tab.run()
    for tab, prompt in zip(tabs, ("Tell me of cats.", "Tell me of dogs."), strict=True):
        assert tab.session_state["playing"].wait(600)
        expected = playground.side_by_side(current(tab, run), prompt, max_new_tokens=60, model=model, saes=saes)
        assert tab.session_state["playing"].texts == expected


def test_hostile_text_is_only_text(run):
    test = ask(opened(), HOSTILE)
    generate(test)
    assert "<script" not in shown(test)
    assert shown(test).count("</section>") == 2


def test_a_prompt_that_does_not_fit_is_one_sentence(run):
    test = ask(opened(), "word " * 100)
    generate(test)
    (error,) = test.error
    assert "do not fit" in error.value
    assert not shown(test)


# --- the set -------------------------------------------------------------------------------------


def test_the_page_opens_with_the_best_kept_set(run):
    test = opened()
    assert [row.feature for row in current(test, run).rows] == [3, 5]
    assert held(test, "number_input", f"row-{run}-1-3-number").value == 4.0
    assert held(test, "slider", f"row-{run}-1-3-slider").value == 4.0
    assert "r +0.321" in said(test)


def without_sets(run: str) -> None:
    with Writer(run) as store:
        store.replace("sets", pd.DataFrame({"name": pd.Series(dtype="string")}))


def test_a_page_that_was_opened_before_there_was_a_set_takes_the_set_that_comes(run):
    kept = stored_run.kept_sets(run)["A"]
    without_sets(run)
    test = opened()
    assert not current(test, run).rows
    stored_run.keep_set(run, kept, "A")
    assert current(test.run(), run) == kept
    test.button(key="load-nothing").click().run()
    assert not current(test.run(), run).rows  # asked for, not found


def test_an_empty_choice_is_said_and_a_set_that_does_something_is_preferred(run):
    kept = stored_run.kept_sets(run)["A"]
    assert "Set V is empty" not in said(opened())
    stored_run.keep_set(run, replace(kept, name="V", rows=()), "V")
    test = opened()
    assert current(test, run) == kept
    assert "Set V is empty: no feature that was tried alone helped beyond noise" in said(test)


def test_a_run_that_is_made_anew_has_another_desk(run, loaded):
    test = opened()
    held(test, "number_input", f"row-{run}-1-3-number").set_value(9.0).run()
    deleting.delete_run(run)
    assert tiny.made_again(*loaded) == run
    test.run()
    assert current(test, run) == stored_run.kept_sets(run)["A"]
    assert test.button(key="icon-undo").disabled


def test_the_link_names_the_set_that_is_loaded(run):
    test = opened()
    assert "set" not in test.query_params  # the best one needs no name
    test = save(test, "my own")
    assert test.query_params["set"] == "my own"
    test.button(key="load-A").click().run()
    assert test.query_params["set"] == "A"
    test.button(key="icon-undo").click().run()
    assert test.query_params["set"] == "my own"
    test.button(key="load-nothing").click().run()
    assert "set" not in test.query_params


@pytest.mark.parametrize(("name", "found"), [("my own", True), ("V", False), ("<b>x", False)])
def test_a_link_opens_the_set_that_it_names_or_says_that_there_is_none(run, name, found):
    kept = stored_run.kept_sets(run)["A"]
    stored_run.keep_set(run, replace(kept, name="my own", scale=3.0))
    test = AppTest.from_function(script, default_timeout=600)
    test.query_params["set"] = name
    test.run()
    assert not test.exception
    assert current(test, run).name == ("my own" if found else "A")
    assert (f"This run has no set named {name}" in said(test)) == (not found)


def test_slider_and_number_are_one_value_and_undo_goes_back(run):
    test = opened()
    held(test, "slider", f"row-{run}-1-3-slider").set_value(2.0).run()
    assert held(test, "number_input", f"row-{run}-1-3-number").value == 2.0
    held(test, "number_input", f"row-{run}-1-3-number").set_value(-3.0).run()
    assert held(test, "slider", f"row-{run}-1-3-slider").value == -3.0
    assert current(test, run).name == "A (edited)"
    test.button(key="icon-undo").click().run()
    assert held(test, "slider", f"row-{run}-1-3-slider").value == 2.0
    test.button(key="icon-undo").click().run()
    assert current(test, run).name == "A"
    assert test.button(key="icon-undo").disabled


def told_late(test: AppTest, before) -> None:
    """A click in a browser that has not drawn a field anew yet: it knows the field as it was `before`, and says so."""
    kind, name, state = before
    new = held(test, kind, name).id
    states = test._tree.get_widget_states()
    others = [one for one in states.widgets if one.id != new]
    del states.widgets[:]
    states.widgets.extend([*others, state])
    test._run(states)
    assert not test.exception


def as_it_is(test: AppTest, kind: str, name: str):
    """A field as the browser shows it now."""
    return kind, name, held(test, kind, name)._widget_state


def test_a_browser_that_is_slow_to_draw_takes_no_change_back(run):
    test = opened()
    slider = as_it_is(test, "slider", f"row-{run}-1-3-slider")
    held(test, "number_input", f"row-{run}-1-3-number").set_value(9.0).run()
    told_late(test, slider)
    assert current(test, run).rows[0].coefficient == 9.0
    assert held(test, "slider", f"row-{run}-1-3-slider").value == 9.0

    names = {"toggle": f"row-{run}-1-3-on", "selectbox": f"row-{run}-1-3-operation", "number_input": f"scale-{run}"}
    before = current(test, run)
    for (kind, name), value in zip(names.items(), (False, "clamp", 2.5), strict=True):
        held(test, kind, name).set_value(value).run()
        assert current(test, run) != before
        changed = as_it_is(test, kind, name)
        test.button(key="icon-undo").click().run()
        told_late(test, changed)
        assert current(test, run) == before


def test_a_field_left_empty_shows_what_the_set_holds(run):
    test = opened()
    for name in (f"row-{run}-1-3-number", f"scale-{run}"):
        before, shown_before = current(test, run), held(test, "number_input", name).value
        held(test, "number_input", name).set_value(None).run()
        assert current(test, run) == before
        assert held(test, "number_input", name).value == shown_before


def test_redo_makes_the_change_again_on_the_page_and_after_a_reload(run):
    test = opened()
    assert test.button(key="icon-redo").disabled
    for value in (2.0, -3.0):
        held(test, "number_input", f"row-{run}-1-3-number").set_value(value).run()
    assert test.button(key="icon-redo").disabled
    for _ in range(2):
        test.button(key="icon-undo").click().run()
    test.button(key="icon-redo").click().run()
    shown_now = [held(test, "slider", f"row-{run}-1-3-slider"), held(test, "number_input", f"row-{run}-1-3-number")]
    assert [one.value for one in shown_now] == [2.0, 2.0]
    again = reloaded(test)
    again.button(key="icon-redo").click().run()
    assert current(again, run).rows[0].coefficient == -3.0
    assert again.button(key="icon-redo").disabled
    held(test, "toggle", f"row-{run}-2-5-on").set_value(False).run()  # the old session: another change
    assert test.button(key="icon-redo").disabled
    assert current(test, run).rows[0].coefficient == 2.0


def test_a_page_without_sets_keeps_what_can_be_redone_when_a_set_comes(run):
    kept = stored_run.kept_sets(run)["A"]
    without_sets(run)
    test = add(opened(), 1, 3, 2.5)
    test.button(key="icon-undo").click().run()
    stored_run.keep_set(run, kept, "A")
    test.run()
    test.button(key="icon-redo").click().run()
    assert [(row.feature, row.coefficient) for row in current(test, run).rows] == [(3, 2.5)]


def test_what_is_done_with_a_feature_is_chosen_in_its_row_and_written_as_by_the_command_line(run, loaded):
    test = ask(opened(), "Tell me of the sea.")
    held(test, "selectbox", f"row-{run}-1-3-operation").set_value("clamp").run()
    held(test, "number_input", f"row-{run}-1-3-number").set_value(9.0).run()
    held(test, "selectbox", f"row-{run}-2-5-operation").set_value("ablate").run()
    assert not test.exception
    first, second = current(test, run).rows
    assert (first.does, second.does) == ("clamp to 9", "ablate")
    assert not [one for one in test.slider if "feature 5" in one.label], "ablating takes no number"
    model, saes = loaded
    expected = playground.side_by_side(current(test, run), "Tell me of the sea.", model=model, saes=saes)
    playing = generate(test)
    assert playing.texts == expected
    assert expected[0] != expected[1]
    assert [max(one.steered_choices, key=lambda each: each.probability).token for one in playing.token_steps(1)] == (
        playing.tokens[1]
    ), "the likeliest tokens, as the set makes them, are those it wrote"
    test.button(key="icon-undo").click().run()
    assert current(test, run).rows[1].does == "add 6"
    assert held(test, "selectbox", f"row-{run}-2-5-operation").value == "add"


def fill(test: AppTest, run: str, place: str, now: str, *, start: int, layer: int, feature: int | None, above: float):
    """Send the form in which it is said when a row acts; `now` is what its row says at present."""
    form = f"when-row-{run}-{place}-{now}"
    test.number_input(key=f"{form}-from").set_value(start)
    test.selectbox(key=f"{form}-layer").set_value(layer)
    test.number_input(key=f"{form}-feature").set_value(feature)
    test.number_input(key=f"{form}-above").set_value(above)
    next(one for one in test.button if one.form_id == f"{form}-form").click().run()
    assert not test.exception


def test_when_a_row_acts_is_folded_away_and_part_of_the_set_its_link_and_its_texts(run, loaded):
    test = ask(opened(), "Tell me of the sea.")
    assert test.selectbox(key=f"when-row-{run}-1-3-0-None-layer").options == ["no condition", "Layer 1"]
    fill(test, run, "2-5", "0-None", start=3, layer=1, feature=7, above=0.25)
    row = current(test, run).rows[1]
    assert (row.from_token, row.while_fires) == (3, Firing(1, 7, 0.25))
    sentence = "Acts only from generated token 3 on, while feature 7 of layer 1 is above 0.25."
    assert sentence in said(test)
    model, saes = loaded
    asked = generate(test).question
    word = snapshot.Snapshot(asked.steering, asked).to_link()
    config, _ = stored_run.stored(run)
    assert snapshot.from_link(word, run, config).steering == asked.steering == current(test, run)
    expected = playground.side_by_side(asked.steering, "Tell me of the sea.", model=model, saes=saes)
    assert test.session_state["playing"].texts == expected
    now = f"3-{row.while_fires}"
    assert test.number_input(key=f"when-row-{run}-2-5-{now}-feature").value == 7
    fill(test, run, "2-5", now, start=0, layer=-1, feature=7, above=0.25)
    assert current(test, run).rows[1] == stored_run.kept_sets(run)["A"].rows[1]
    assert sentence not in said(test)


def test_a_condition_that_cannot_be_is_refused_in_words_and_changes_nothing(run):
    test = opened()
    before = current(test, run)
    fill(test, run, "2-5", "0-None", start=0, layer=2, feature=None, above=0.0)
    assert "Say which feature of layer 2 is to be active; give its number." in said(test)
    assert current(test, run) == before


def test_of_a_set_that_does_more_than_add_only_the_script_is_made(run, loaded):
    import torch
    from safetensors.torch import load

    from app.steer.desk import file_stem
    from app.steer.sets.exporting import KEPT
    from corrsteer_core.engine import exports

    model, saes = loaded
    test = opened()
    held(test, "selectbox", f"row-{run}-1-3-operation").set_value("cap").run()
    assert "can only add the same vector at every token, and the row for feature 3 of layer 1" in said(test)
    button = test.button(key="export")
    assert button.label == "Make the script"
    button.click().run()
    assert not test.exception
    assert not test.error
    labels = [one.label for one in test.get("download_button")]
    assert {"Python script", "Python script: what it reads (.safetensors)"} <= set(labels)
    assert not {"Vectors (safetensors)", "Control vector (GGUF)"} & set(labels)
    kept, steering = test.session_state[KEPT], current(test, run)
    script, tensors = exports.exported(steering, "python", file_stem(steering), model, saes).values()
    assert kept.files == {"python": script}
    assert kept.beside["python"].keys() == {".safetensors"}
    found, expected = load(kept.beside["python"][".safetensors"]), load(tensors)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (SteeringRow(1, 3, 3.0, operation="clamp"), "Now held at 1.5 times its usual coefficient."),
        (SteeringRow(1, 3, 1.0, operation="cap"), "Now held at most at 0.5 times its usual coefficient."),
        (
            SteeringRow(1, 3, 1.0, operation="ablate", from_token=1),
            "Not tried alone. Acts only from generated token 1 on.",
        ),
    ],
)
def test_a_row_says_what_its_number_is_beside_the_usual(row, words):
    assert set_rows._where_from(row, {"coefficient": 2.0}).endswith(words)


def test_a_value_beyond_the_slider_widens_it(run):
    test = opened()
    held(test, "number_input", f"row-{run}-1-3-number").set_value(500.0).run()
    slider = held(test, "slider", f"row-{run}-1-3-slider")
    assert slider.value == 500.0
    assert slider.max >= 500.0
    assert current(test, run).rows[0].coefficient == 500.0


def test_switching_off_and_removing_rows(run):
    test = opened()
    held(test, "toggle", f"row-{run}-1-3-on").set_value(False).run()
    assert [row.feature for row in current(test, run).active_rows] == [5]
    test.button(key=f"icon-row-{run}-2-5-out").click().run()
    assert [row.feature for row in current(test, run).rows] == [3]
    assert "No feature is switched on" in said(test)
    test.button(key="icon-reset").click().run()
    assert current(test, run) == stored_run.kept_sets(run)["A"]


def add(test: AppTest, layer: int, feature: int, coefficient: float | None = None) -> AppTest:
    test.selectbox(key="add_layer").set_value(layer)
    test.number_input(key="add_feature_number").set_value(feature)
    test.number_input(key="add_coefficient").set_value(coefficient)
    button(test, "Add to the set").click().run()
    assert not test.exception
    return test


def test_a_feature_added_by_number_gets_its_fitted_coefficient(run):
    test = add(opened(), 2, 7)
    row = current(test, run).rows[-1]
    fitted = stored_run.features_of(run, 2).set_index("feature").loc[7, "coefficient"]
    assert (row.layer, row.feature) == (2, 7)
    assert row.coefficient == pytest.approx(fitted)
    test = add(test, 1, 9, -2.5)
    assert current(test, run).rows[-1].coefficient == -2.5


def test_a_feature_that_is_there_already_is_refused_in_words(run):
    test = add(opened(), 1, 3)
    (error,) = test.error
    assert "in the set already" in error.value
    assert len(current(test, run).rows) == 2


def test_features_picked_elsewhere_are_in_the_set_at_once_and_only_once(run):
    tray = [{"layer": 1, "feature": 3, "coefficient": 1.0}, {"layer": 2, "feature": 8, "coefficient": 0.5}]
    test = opened(tray=tray)
    assert [(row.layer, row.feature) for row in current(test, run).rows] == [(1, 3), (2, 5), (2, 8)]
    assert "Added to the set: layer 2 · feature 8. Undo takes it out again." in said(test)
    assert test.session_state["tray"] == []
    test.button(key="icon-undo").click().run()
    assert [(row.layer, row.feature) for row in current(test, run).rows] == [(1, 3), (2, 5)]
    assert "in the set already" in said(opened(tray=tray[:1]))


def test_the_next_feature_does_not_get_the_coefficient_of_the_one_before(run):
    test = opened()
    test.selectbox(key="add_layer").set_value(1)
    test.number_input(key="add_feature_number").set_value(7)
    test.number_input(key="add_coefficient").set_value(2.5)
    button(test, "Add to the set").click().run()
    assert current(test, run).rows[-1].coefficient == 2.5
    assert test.number_input(key="add_coefficient").value is None


def test_a_row_says_what_steering_with_it_alone_did():
    row = SteeringRow(1, 3, 2.0, note="r +0.321")
    found = {"coefficient": 1.0, "effect": -0.142, "effect_scale": 1.0, "effect_p": 0.001}
    assert "Harmful: −14.2 points steered alone, at best (1×, p = 0.001)." in set_rows._where_from(row, found)
    found |= {"effect": 0.05, "effect_p": 0.3}
    assert "+5.0 points steered alone, at best (1×, p = 0.30)." in set_rows._where_from(row, found)
    assert "Harmful" not in set_rows._where_from(row, found)
    found["effect"] = None
    assert "Not tried alone." in set_rows._where_from(row, found)


def test_a_row_says_what_its_feature_means_and_whose_guess_it_is(run):
    rows = [
        {"layer": 1, "feature": 3, "source": "own", "description": "Makes “good” likelier"},
        {"layer": 2, "feature": 5, "source": "neuronpedia", "description": HOSTILE},
    ]
    descriptions.keep(run, pd.DataFrame(rows))
    lines = [str(one.value) for one in opened().markdown]
    assert "Makes “good” likelier \\(?\\)" in lines
    assert components.for_markdown(components.shortened(HOSTILE, 120)) in lines


def test_the_scale_stands_above_the_rows_it_multiplies(run):
    test = opened()
    numbers = [one.key for one in test.number_input]
    scale, strength = (held(test, "number_input", name).key for name in (f"scale-{run}", f"row-{run}-1-3-number"))
    assert numbers.index(scale) < numbers.index(strength)


def test_a_feature_is_added_by_its_meaning(run):
    known = [{"layer": 2, "feature": 7, "source": "own", "description": "Most active at “sea”"}]
    descriptions.keep(run, pd.DataFrame(known))
    test = opened()
    (box,) = [one for one in test.selectbox if one.label == "Meaning"]
    assert box.options == ["2 · 7: “sea” (?)"]
    button(test, "Add to the set").click().run()
    assert "No feature is chosen" in said(test)
    test.selectbox(key="add_described").set_value((2, 7))
    button(test, "Add to the set").click().run()
    row = current(test, run).rows[-1]
    assert (row.layer, row.feature) == (2, 7)
    assert row.coefficient == pytest.approx(stored_run.features_of(run, 2).set_index("feature").loc[7, "coefficient"])
    test.segmented_control(key="add_how").set_value("By number").run()
    add(test, 1, 9, -2.5)
    assert [(row.layer, row.feature) for row in current(test, run).rows[-2:]] == [(2, 7), (1, 9)]


def test_generate_answers_what_was_typed_by_the_same_click(run):
    test = opened()
    test.segmented_control(key="prompt_kind").set_value("My own").run()
    assert not button(test, "Generate").disabled
    test.text_area(key="typed").set_value("Hello there")  # as the browser sends it: the text along with the press
    playing = generate(test)
    assert playing.question.prompt == "Hello there"


def test_generate_without_a_prompt_asks_for_one(run):
    test = opened()
    test.segmented_control(key="prompt_kind").set_value("My own").run()
    button(test, "Generate").click().run()
    assert "Type a prompt first." in said(test)
    assert "playing" not in test.session_state


def test_a_reload_brings_back_set_prompt_settings_and_answers(run):
    test = ask(opened(), "Hello there")
    held(test, "number_input", f"row-{run}-1-3-number").set_value(9.0).run()
    test.number_input(key=f"length-typed-{run}").set_value(5).run()
    playing = generate(test)
    again = reloaded(test)
    assert again.text_area(key="typed").value == "Hello there"
    assert again.number_input(key=f"length-typed-{run}").value == 5
    assert held(again, "number_input", f"row-{run}-1-3-number").value == 9.0
    assert again.session_state["playing"] is playing
    assert shown(again) == shown(test)
    again.button(key="icon-undo").click().run()  # and the way back; the old session keeps its own
    assert current(again, run).rows[0].coefficient == 4.0
    assert current(test, run).rows[0].coefficient == 9.0


def test_an_address_that_names_nothing_remembered_opens_the_page_as_new(run):
    test = AppTest.from_function(script, default_timeout=600)
    test.query_params["desk"] = "gone"
    test.run()
    assert not test.exception
    assert current(test, run) == stored_run.kept_sets(run)["A"]


def name_box(test: AppTest):
    return next(one for one in test.text_input if one.label == "Name")


def save(test: AppTest, name: str) -> AppTest:
    name_box(test).set_value(name)
    button(test, "Save with the run").click().run()
    assert not test.exception
    return test


def test_a_set_is_saved_with_the_run_and_loaded_again(run):
    test = opened()
    held(test, "number_input", f"row-{run}-1-3-number").set_value(9.0).run()
    test = save(test, "my own")
    kept = stored_run.kept_sets(run)["my own"]
    assert kept == replace(current(test, run), name="my own")
    assert kept.rows[0].coefficient == 9.0
    test.button(key="load-A").click().run()
    assert current(test, run).rows[0].coefficient == 4.0
    test.button(key="load-my own").click().run()
    assert current(test, run) == kept


def test_that_a_set_cannot_be_saved_while_its_run_is_written_is_said_at_once(run, monkeypatch):
    test, waited = opened(), []
    real = stored_run.keep_set
    monkeypatch.setattr(stored_run, "keep_set", lambda *given, wait: waited.append(wait) or real(*given, wait=wait))
    with Writer(run):
        save(test, "my own")
    assert waited[0] < PATIENCE / 2
    assert "being written by another process" in test.error[0].value
    save(test, "my own")
    assert "my own" in stored_run.kept_sets(run)


def test_a_set_takes_the_place_of_another_only_by_a_second_press(run):
    test = opened()
    held(test, "number_input", f"row-{run}-1-3-number").set_value(9.0).run()
    test = save(test, "my own")
    assert name_box(test).value == "my own"
    test.button(key="load-A").click().run()
    assert name_box(test).value == ""  # what is proposed is the loaded set's name, not the last one's
    held(test, "number_input", f"row-{run}-1-3-number").set_value(2.0).run()
    test = save(test, "my own")
    assert stored_run.kept_sets(run)["my own"].rows[0].coefficient == 9.0
    assert "**my own** is the name of another set of this run" in said(test)
    button(test, "Replace it").click().run()
    assert not test.exception
    assert stored_run.kept_sets(run)["my own"].rows[0].coefficient == 2.0
    assert current(test, run).name == "my own"
    assert "Replace it" not in [one.label for one in test.button]
    assert "another set" not in said(save(test, "my own"))  # the same once more


def test_a_set_that_has_changed_since_takes_no_place(run):
    test = save(opened(), "my own")
    held(test, "number_input", f"row-{run}-1-3-number").set_value(2.0).run()
    save(test, "my own")
    held(test, "number_input", f"row-{run}-1-3-number").set_value(3.0).run()
    assert "Replace it" not in [one.label for one in test.button]


@pytest.mark.parametrize(
    ("found", "said_of_it"),
    [
        (None, "is silent in the training samples"),
        ({"coefficient": 0.0}, "fires in no successful training sample"),
        ({"coefficient": 2.0}, "Now 0.0 times its usual coefficient"),
    ],
)
def test_a_row_that_does_nothing_says_why(found, said_of_it):
    for note in ("", "by hand"):
        text = set_rows._where_from(SteeringRow(1, 3, 0.0, note=note), found or {})
        assert said_of_it in text
        assert note in text
        assert ("With coefficient 0 it does nothing" in text) == (said_of_it[0] != "N")


def test_a_feature_without_a_strength_of_its_own_needs_one_given(run, monkeypatch):
    test = opened()
    ask_reader = resources.ask
    monkeypatch.setattr(
        resources,
        "ask",
        lambda question, *rest, **named: (
            {"coefficient": 0.0} if question.__name__ == "one_feature" else ask_reader(question, *rest, **named)
        ),
    )  # fmt: skip
    assert "fired in no successful training sample" in add(test, 2, 7).error[0].value
    assert current(add(test, 2, 7, 1.5), run).rows[-1].coefficient == 1.5


def test_every_control_of_a_row_names_its_feature(run):
    test = opened()
    controls = (*test.slider, *test.number_input, *test.selectbox)
    names = [one.label for one in controls if one.key.startswith("row-")]
    names += [one.proto.popover.label for one in test.get("popover") if "of layer" in one.proto.popover.label]
    assert len(set(names)) == 8
    assert all("feature 3 of layer 1" in name or "feature 5 of layer 2" in name for name in names)


def test_every_link_of_a_row_names_its_feature(run):
    test = AppTest.from_file(MAIN, default_timeout=600).run()
    test._page_hash = test.session_state["pages"]["steer"]._script_hash
    test.run()
    assert not test.exception
    links = [one.proto.label for one in test.get("page_link")]
    assert links == ["Look *at feature 3 of layer 1*", "Look *at feature 5 of layer 2*"]
    assert "a em {" in components.STYLE  # the part that is only to be heard


@pytest.mark.parametrize("name", ["V", "  ", "x" * 61, "a\u202eb"])
def test_a_name_that_cannot_be_used_is_refused_in_words(run, name):
    steering = stored_run.kept_sets(run)["A"]
    with pytest.raises(CorrSteerError, match="name"):
        editing.Editor.of(steering).named(name)


def test_an_uploaded_set_is_loaded(run):
    test = opened()
    other = stored_run.kept_sets(run)["A"].scaled(2.0)
    test.file_uploader(key="set_file").upload("mine.json", other.to_json().encode(), "application/json").run()
    assert not test.exception
    assert current(test, run) == other
    assert "Loaded mine" in said(test)


def edited(**fields: object):
    """A change of a set's JSON."""
    return lambda body: {**body, **fields}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (edited(model_fingerprint="0" * 12), "another model"),
        (edited(format="x"), "not a steering set"),
        (edited(version=99), "version"),
        (edited(scale=float("inf")), "scale"),
        (edited(rows=[{"layer": 1, "feature": 4800, "coefficient": 1.0}]), "no feature 4800"),
        (edited(rows=[{"layer": 7, "feature": 1, "coefficient": 1.0}]), "no SAE"),
        (edited(rows=[{"layer": 1, "feature": 1, "coefficient": float("nan")}]), "coefficient"),
        (edited(rows=[{"layer": 1, "feature": 1, "coefficient": 10**400}]), "coefficient"),
        (edited(rows=[{"layer": 1, "feature": 1}]), "field"),
        (edited(rows="x"), "field"),
        (lambda body: [body], "not a steering set"),
        (lambda body: {**body, "saes": [{**body["saes"][0], "fingerprint": "f"}, body["saes"][1]]}, "another SAE"),
    ],
)
def test_an_uploaded_file_that_is_wrong_is_refused_in_words(run, change, fault):
    config, _ = stored_run.stored(run)
    body = change(json.loads(stored_run.kept_sets(run)["A"].to_json()))
    with pytest.raises(CorrSteerError, match=fault):
        editing.uploaded(json.dumps(body).encode(), "mine.json", run, config)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null", b" " * 3_000_000])
def test_an_uploaded_file_that_is_no_set_is_refused_in_words(run, content):
    config, _ = stored_run.stored(run)
    with pytest.raises(CorrSteerError, match="file mine"):
        editing.uploaded(content, "mine", run, config)


def test_where_an_uploaded_file_says_saes_lie_is_not_followed(run):
    config, _ = stored_run.stored(run)
    body = json.loads(stored_run.kept_sets(run)["A"].to_json())
    for sae in body["saes"]:
        sae["source"] = "/etc"
    loaded = editing.uploaded(json.dumps(body).encode(), "mine.json", run, config)
    assert loaded.saes == config.saes


def test_the_set_is_exported_for_other_programs_when_asked_for(run, loaded):
    import torch
    from safetensors.torch import load

    from app.steer.desk import file_stem
    from app.steer.sets.exporting import KEPT
    from corrsteer_core.engine import exports

    model, saes = loaded
    test = opened()
    assert KEPT not in test.session_state
    test.button(key="export").click().run()
    assert not test.exception
    assert not test.error
    kept = test.session_state[KEPT]
    steering = current(test, run)
    (expected,) = exports.exported(steering, "safetensors", "A", model, saes).values()
    ours, theirs = load(kept.files["safetensors"]), load(expected)  # the order of the metadata is not fixed
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for wanted in ("gguf", "python"):
        assert kept.files[wanted] == next(iter(exports.exported(steering, wanted, "A", model, saes).values()))
    labels = [one.label for one in test.get("download_button")]
    assert {"Vectors (safetensors)", "Python script", "Control vector (GGUF)"} <= set(labels)
    held(test, "number_input", f"scale-{run}").set_value(2.0).run()
    # It is another set now: what was made is not offered any more.
    assert "Python script" not in [one.label for one in test.get("download_button")]
    assert file_stem(replace(steering, name="../a\\b/\u202ec")) == "-a-b-c"


def test_the_file_of_a_measured_set_carries_its_evidence(run, loaded):
    model, saes = loaded

    def help_of_download():
        (found,) = [one.proto for one in opened().get("download_button") if one.label == "Download the set"]
        return found.help

    assert help_of_download() == ""
    evaluate_set(stored_run.kept_sets(run)["A"], get_task("sentiment"), limit=4, model=model, saes=saes)
    assert "carries its measurement as evidence" in help_of_download()


def test_an_export_with_nothing_switched_on_is_refused_in_words(run):
    test = opened()
    for key in ("1-3", "2-5"):
        held(test, "toggle", f"row-{run}-{key}-on").set_value(False).run()
    test.button(key="export").click().run()
    assert not test.exception
    assert "switch one on" in said(test)


def test_the_answers_token_by_token(run, loaded):
    from corrsteer_core.models.prompts import render

    model, saes = loaded
    test = ask(opened(), "Tell me of the sea.")
    playing = generate(test)
    assert tuple(map(model.tokenizer.decode, playing.tokens)) == playing.texts
    test.toggle(key="token_by_token").set_value(True).run()
    assert not test.exception
    steering = current(test, run)
    prompt = render(model, "Tell me of the sea.", steering.style)
    for title, ids in zip(("Steered", "Unsteered"), reversed(playing.tokens), strict=True):
        test.segmented_control(key="token_answer-2").set_value(title).run()
        expected = token_probabilities.steps(model, vectors_of(steering, saes), prompt, ids)
        (frame,) = [one.value for one in test.dataframe if "Best with" in one.value]
        assert frame["Without steering"].tolist() == pytest.approx([step.unsteered for step in expected], rel=1e-5)
        assert frame["With"].tolist() == pytest.approx([step.steered for step in expected], rel=1e-5)
        assert frame["KL"].tolist() == pytest.approx([step.kl for step in expected], rel=1e-5, abs=1e-9)
        assert frame[""].tolist().index("▶") == token_probabilities.parts_at(*playing.tokens)
    assert f"part at token {token_probabilities.parts_at(*playing.tokens) + 1}" in said(test)


def test_a_text_that_ends_at_once_is_said_to_need_a_chat(run):
    hint = "asked as in a chat, it may answer"
    test = ask(opened(), "Tell me of the sea.")
    playing = generate(test)
    assert not playing.question.chat
    assert hint not in said(test)
    playing.texts = ("", " ")
    assert hint in said(test.run())


def test_reading_an_answer_token_by_token_can_be_given_up(run):
    playing = generate(ask(opened(), "Tell me of the sea."))
    seen = []

    def giving_up(stage: str, done: int, total: int) -> None:
        seen.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        playing.token_steps(1, giving_up)
    assert seen == [(0, len(playing.tokens[1]))]
    assert len(playing.token_steps(1)) == len(playing.tokens[1])  # and begun anew: the model is free, nothing half kept


# --- the page as a link and as a file ------------------------------------------------------------


def linked(test: AppTest) -> str:
    """The word that the page's link ends with."""
    (address,) = [one.value for one in test.code if "page=" in one.value]
    return parse_qs(address.partition("?")[2])["page"][0]


def changed(run: str) -> AppTest:
    """A page on which everything has been changed."""
    test = ask(opened(), "Tell me of the sea.")
    held(test, "number_input", f"row-{run}-1-3-number").set_value(9.0).run()
    held(test, "toggle", f"row-{run}-2-5-on").set_value(False).run()
    held(test, "number_input", f"scale-{run}").set_value(1.5).run()
    test.toggle(key=f"chat-{run}").set_value(True).run()
    test.number_input(key=f"length-typed-{run}").set_value(7).run()
    test.slider(key="temperature").set_value(0.7).run()
    test.number_input(key="seed").set_value(5).run()
    test.get_by_key(f"scales-{run}").set_value([0.5, 2.0]).run()
    assert not test.exception
    return test


def test_a_link_puts_the_whole_page_back_and_leaves_it_to_the_user(run):
    first = changed(run)
    asked = generate(first).question
    word = linked(first)
    again = AppTest.from_function(script, default_timeout=600)
    again.query_params["page"] = word
    again.run()
    assert not again.exception
    assert not again.error
    assert linked(again) == word
    assert "page" not in again.query_params  # else it would be put back over what is done from now on
    assert generate(again).question == asked
    again.text_area(key="typed").set_value("Something else.").run()
    assert generate(again).question == replace(asked, prompt="Something else.")


def test_a_downloaded_page_is_put_back_by_uploading_it(run):
    first = opened()
    test_sample = next(item.id for item in stored_run.stored(run)[1] if item.split == "validation")
    first.selectbox(key="sample_split").set_value("validation").run()
    first.selectbox(key=f"sample-{run}-validation").set_value(test_sample).run()
    held(first, "number_input", f"scale-{run}").set_value(2.5).run()
    asked = generate(first).question
    config, _ = stored_run.stored(run)
    content = snapshot.Snapshot(asked.steering, asked).to_json()
    assert asked.prompt not in content  # it is the run's
    again = opened()
    again.file_uploader(key="set_file").upload("mine.json", content.encode(), "application/json").run()
    assert not again.exception
    assert not again.error
    assert generate(again).question == asked
    assert snapshot.from_file(content.encode(), "mine.json", run, config).steering == asked.steering


def test_a_conversation_is_part_of_the_page_and_a_long_one_is_no_link(run):
    config, _ = stored_run.stored(run)
    steering = stored_run.kept_sets(run)["A"]
    asked = Question(steering, "And?", run, chat=True, turns=(Turn("Hello.", HOSTILE, "b"),))
    kept = snapshot.Snapshot(steering, asked)
    assert snapshot.from_link(kept.to_link(), run, config) == kept
    assert snapshot.from_file(kept.to_json().encode(), "x", run, config) == kept
    long = "".join(map(chr, np.random.default_rng(0).integers(33, 50_000, 8_000)))
    assert snapshot.Snapshot(steering, replace(asked, prompt=long)).to_link() is None


@pytest.mark.parametrize("read", ["link", "file"])
def test_what_is_wrong_with_a_set_within_a_page_is_said_of_the_page(run, read):
    config, _ = stored_run.stored(run)
    body = json.loads(snapshot.Snapshot(stored_run.kept_sets(run)["A"]).to_json())
    body["set"]["model_fingerprint"] = "0" * 12
    opening = {
        "link": lambda: snapshot.from_link(packed(body), run, config),
        "file": lambda: snapshot.from_file(json.dumps(body).encode(), "mine.json", run, config),
    }
    with pytest.raises(CorrSteerError) as caught:
        opening[read]()
    assert str(caught.value).startswith({"link": "The link belongs to", "file": "The file mine.json belongs to"}[read])


def test_the_page_opens_on_a_sample_that_the_set_was_seen_to_put_right(run):
    _, items = stored_run.stored(run)
    tests = [item.id for item in items if item.split == "test"]
    samples = [
        {"sample": one, "unsteered": "a", "steered": "b", "outcome_unsteered": 0.0, "outcome_steered": float(one == tests[-1])}
        for one in tests
    ]  # fmt: skip
    summary = {"set": "V", "task": "sentiment", "split": "test", "scale": 1.0}
    row = {"name": "V", "task": "sentiment", "split": "test", "scale": 1.0, "created": pd.Timestamp("2026-01-01")}
    with Writer(run) as store:
        store.add(
            "evaluations", pd.DataFrame([{**row, "summary": json.dumps(summary), "samples": json.dumps(samples)}])
        )
    assert opened().selectbox(key=f"sample-{run}-test").value == tests[-1]


def packed(body: object) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(body).encode())).decode().rstrip("=")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (edited(version=2), "not one that this version"),
        (edited(set={"format": "x"}), "not a steering set"),
        (edited(question=[]), "does not have"),
        (lambda body: {"format": body["format"]}, "damaged"),
        (lambda body: [body], "damaged"),
        *(
            (lambda body, field=field, value=value: {**body, "question": {**body["question"], field: value}}, fault)
            for field, value, fault in [
                ("max_new_tokens", 10**9, "between 1 and 1000"),
                ("max_new_tokens", 1.5, "whole"),
                ("temperature", float("nan"), "number was expected"),
                ("seed", "x", "number was expected"),
                ("scales", [3.0], "scale 3"),
                ("prompt", "x" * 10_000, "at most 8,000"),
                ("prompt", 5, "text"),
                ("turns", [["one"]], "does not have"),
            ]
        ),
    ],
)
def test_a_link_that_is_wrong_is_refused_in_words(run, change, fault):
    config, _ = stored_run.stored(run)
    steering = stored_run.kept_sets(run)["A"]
    body = json.loads(snapshot.Snapshot(steering, Question(steering, "Why?", run)).to_json())
    with pytest.raises(CorrSteerError, match=fault):
        snapshot.from_link(packed(change(body)), run, config)


@pytest.mark.parametrize("word", ["x", "!!", "é", "eJw", packed("x" * 50_000_000)])
def test_a_damaged_link_leaves_the_page_usable(run, word):
    test = AppTest.from_function(script, default_timeout=600)
    test.query_params["page"] = word
    test.run()
    assert not test.exception
    assert "The link" in test.error[0].value
    assert current(test, run) == stored_run.kept_sets(run)["A"]
