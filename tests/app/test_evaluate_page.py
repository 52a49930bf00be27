"""The Evaluate page: what is asked of a measurement, how it goes, and what is shown of its result."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.evaluate import measuring
from app.evaluate.sample_filters import Wanted, classes
from app.shared import tables, verdict_box
from corrsteer_core.base import jobs
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.evaluation.measure import evaluate_set
from corrsteer_core.reporting import prior_words, rate_rows, tournament_words, verdict
from corrsteer_core.runs import measurements, run_facts, stored_run
from corrsteer_core.runs.steering_set import SteeringSet, load_set
from corrsteer_core.storage.writing import Writer
from corrsteer_core.tasks import TASKS, get_task, has_shifted
from tests.app import ready_runs
from tests.made import fabricated
from tests.made import runs as tiny


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    monkeypatch.setenv("CORRSTEER_DTYPE", "float32")  # what the app loads is what tests/made/runs.py does
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of the jobs that the page starts; none is run."""
    found: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda arguments, title: found.append(list(arguments)) or "id")
    return found


def script() -> None:
    import streamlit as st  # this function's text is run on its own

    from app.evaluate import page as evaluate
    from app.shared import components
    from corrsteer_core.storage import run_folder

    st.session_state.setdefault("current_run", next(iter(run_folder.run_names()), None))
    components.page_of(evaluate.page)()


def opened(*, form: bool = True) -> AppTest:
    test = AppTest.from_function(script, default_timeout=600)
    test.session_state["measure-False"] = form  # unfolded where something was measured already
    test.run()
    assert not test.exception
    return test


def said(test: AppTest) -> str:
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "success")
    found = [str(one.value) for kind in kinds for one in test.get(kind)]
    found += [f"{one.label} {one.value} {one.delta}" for one in test.metric]
    return "\n".join(found).replace("\\", "")


def flips(test: AppTest) -> str:
    """The HTML of the table of samples."""
    return next(str(one.proto.body) for one in test.get("html") if "cs-flips" in str(one.proto.body)).split("</style>")[
        1
    ]


def press(test: AppTest, label: str) -> AppTest:
    next(one for one in test.button if one.label == label).click().run()
    assert not test.exception
    return test


def choose(test: AppTest, label: str, value: object):
    next(one for one in test.selectbox if one.label == label).set_value(value)


def number(test: AppTest, label: str, value: float | None):
    next(one for one in test.number_input if one.label == label).set_value(value)


# --- asking --------------------------------------------------------------------------------------


def test_without_a_run_the_page_says_what_to_do():
    assert "nothing to measure yet" in said(opened())


def test_a_run_without_sets_or_measurements_says_what_to_do():
    ready_runs.make_run(measured=False)
    assert "no steering set yet" in said(opened())


def test_what_is_asked_for_reaches_the_command_line(started):
    run = ready_runs.make_run()
    test = opened()
    choose(test, "Steering set", "A")
    choose(test, "Task", "overrefusal")
    choose(test, "Samples", "validation")
    number(test, "Most samples", 12)
    number(test, "Random sets to compare with", 3)
    press(test, "Measure")
    (arguments,) = started
    file = Path(arguments[2])
    assert arguments[:2] == ["evaluate", "--set"]
    assert arguments[3:] == [
        *("--task", "overrefusal", "--split", "validation"),
        *("--controls", "3", "--limit", "12", "--json"),
    ]
    body = measurements.sets(run).set_index("name").loc["A", "body"]
    assert file.read_text() == body
    assert load_set(file).name == "A"


def kind(test: AppTest, value: str) -> AppTest:
    test.segmented_control(key="measure_kind").set_value(value).run()
    assert not test.exception
    return test


def test_a_sweep_over_scales_and_tasks_reaches_the_command_line(started):
    ready_runs.make_run()
    test = kind(opened(), "scales")
    next(one for one in test.multiselect if one.label == "Tasks").set_value(["sentiment", "overrefusal"])
    next(one for one in test.multiselect if one.label == "Scales").set_value([2.0, 0.5])
    press(test, "Measure")
    (arguments,) = started
    assert arguments[:2] == ["sweep", "--set"]
    assert arguments[3:] == [
        *("--task", "sentiment", "--task", "overrefusal", "--scales=0.5,2", "--split", "test", "--json"),
    ]


def test_sets_on_tasks_reach_the_command_line(started):
    ready_runs.make_run()
    test = kind(opened(), "tasks")
    next(one for one in test.multiselect if one.label == "Steering sets").set_value(["A", "V"])
    press(test, "Measure")
    (arguments,) = started
    assert arguments[0] == "transfer"
    assert [load_set(Path(arguments[place + 1])).name for place, part in enumerate(arguments) if part == "--set"] == [
        "A", "V",
    ]  # fmt: skip
    assert arguments[5:] == ["--task", "sentiment", "--split", "test", "--json"]


def test_a_sweep_without_a_task_is_answered_in_words(started):
    ready_runs.make_run()
    test = kind(opened(), "scales")
    next(one for one in test.multiselect if one.label == "Tasks").set_value([])
    press(test, "Measure")
    assert "Choose at least one task" in said(test)
    assert not started


def test_that_a_file_of_ones_own_is_measured_set_by_set_is_said():
    run = ready_runs.make_run()
    with Writer(run) as store:
        config = json.loads(store.query("SELECT config FROM runs")["config"][0])
        body = json.dumps({**config, "task": "custom-mine", "scorer": "exact", "data": "/x/mine.jsonl"})
        store.replace("runs", pd.DataFrame([{"created": fabricated.NOW, "config": body, "batch_size": 16}]))
    for way in ("scales", "tasks"):
        assert "measured under *One set*" in said(kind(opened(), way))


def test_a_set_edited_under_a_name_that_is_taken_can_be_measured_beside_it():
    """What was brought from elsewhere may be called V too."""
    run = ready_runs.make_run()
    test = opened()
    body = json.loads(measurements.sets(run).set_index("name").loc["V", "body"])
    edited = SteeringSet.from_json(json.dumps({**body, "rows": [{**body["rows"][0], "coefficient": 1.25}]}))
    with Writer(run) as store:
        kept = store.query("SELECT * FROM sets").drop(columns="run").assign(content="00000000")
        store.add("sets", kept)
    for begun, offered in ((fabricated.NOW, ["V (on the Steer page)"]), (pd.Timestamp("2026-01-01"), [])):
        test.session_state["desks"] = {run: SimpleNamespace(editor=SimpleNamespace(current=edited), begun=begun)}
        test.run()
        (choice,) = [one for one in test.selectbox if one.label == "Steering set"]
        assert choice.options == ["V", "A", "S", *offered]  # none of a run that has been made anew since


def measured_too(run: str, *evaluations: tuple[str, str, float, float]) -> None:
    """Evaluations beside the one there is: set, task, scale, steered rate."""
    with Writer(run) as store:
        one = store.query("SELECT * FROM evaluations").drop(columns="run").iloc[0]
        rows = [
            {**one, "name": name, "task": task, "scale": scale, "summary": _with(one["summary"], rate)}
            for name, task, scale, rate in evaluations
        ]
        store.add("evaluations", pd.DataFrame(rows))


BOTH = (("V", "sentiment", 2.0, 0.8), ("V", "overrefusal", 1.0, 0.5), ("V", "overrefusal", 2.0, 0.4))


def test_a_task_is_not_drawn_against_itself():
    measured_too(ready_runs.make_run(), *BOTH, ("V", "capitals", 1.0, 0.5), ("V", "capitals", 2.0, 0.3))
    test = opened()
    for task in ("capitals", "overrefusal", "sentiment"):
        choose(test, "Across", task)
        test.run()
        assert not test.exception
        across, up = (next(one for one in test.selectbox if one.label == label) for label in ("Across", "Up"))
        assert set(across.options) - set(up.options) == {TASKS[task].title}
        up.set_value(next(other for other in ("capitals", "overrefusal") if other != task)).run()
        assert not test.exception


def test_scales_and_tasks_beside_one_another_are_drawn():
    measured_too(ready_runs.make_run(), *BOTH, ("A", "sentiment", 1.0, 0.6))
    test = opened()
    words = said(test)
    assert "V at several scales, 60 test samples" in words
    assert "Sets on tasks, test samples" in words
    assert len(test.get("plotly_chart")) == 3


def test_scales_on_fewer_samples_than_the_largest_measurement_keep_a_curve_of_their_own():
    run = ready_runs.make_run()
    measured_too(run, ("V", "sentiment", 1.0, 0.8), ("V", "sentiment", 2.0, 0.7), ("V", "sentiment", 4.0, 0.6))
    with Writer(run) as store:  # the first, of all samples, stays; the three of the sweep are of 20
        rows = store.query("SELECT * EXCLUDE (run) FROM evaluations")
        rows.loc[rows.index[1:], "n"] = 20
        rows["summary"] = [json.dumps(json.loads(row.summary) | {"n": row.n}) for row in rows.itertuples()]
        store.replace("evaluations", rows)
    test = opened()
    words = said(test)
    assert "V at several scales, 20 test samples" in words
    assert "60 test samples" not in words  # one scale alone is no curve
    assert "test samples, scale" in words  # the one that is shown says which it is


def _with(summary: str, rate: float) -> str:
    body = json.loads(summary)
    return json.dumps(body | {"steered_rate": rate, "effect": rate - body["unsteered_rate"]})


def test_all_samples_are_measured_unless_a_limit_is_given(started):
    ready_runs.make_run()
    press(opened(), "Measure")
    assert "--limit" not in started[0]
    assert started[0][started[0].index("--split") + 1] == "test"


def test_a_users_own_task_is_named_by_its_file_and_scorer():
    asked = measuring.Measurement(measuring.NamedSet("run-1", "V", "{}"), "custom-mine", "test")
    config = {"task": "custom-mine", "scorer": "exact", "data": "/data/mine.jsonl", "max_new_tokens": 7}
    arguments = asked.arguments(config)
    assert arguments[3:9] == ["--scorer", "exact", "--data", "/data/mine.jsonl", "--max-new-tokens", "7"]
    assert "--task" not in arguments


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", "\u202e<script>", "-" * 300, "CON", "ä ö"])
def test_whatever_a_set_is_called_its_file_stays_in_its_folder(cache, name):
    file = measuring.NamedSet("run-1", name, "{}").file
    assert file.parent == cache / "sets" / "run-1"
    assert file.name == file.name.encode("ascii").decode()
    assert len(file.name) < 60


def test_sets_of_one_name_and_other_content_have_files_of_their_own():
    one, other = (measuring.NamedSet("run-1", "V", body).file for body in ("{}", "{ }"))
    assert one != other


def test_the_same_measurement_is_not_started_twice(monkeypatch):
    run = ready_runs.make_run()
    config = run_facts.facts(run).config
    asked = measuring.Measurement(measuring.NamedSet(run, "V", "{}"), "sentiment")
    monkeypatch.setattr(
        jobs, "running", lambda arguments: object() if list(arguments) == asked.arguments(config) else None
    )
    with pytest.raises(CorrSteerError, match="running already"):
        measuring.start(asked, config)


# --- how it goes ---------------------------------------------------------------------------------


def pretended(state: str, **fields: object) -> jobs.Job:
    base = {
        "stage": "measuring",
        "share": 0.25,
        "seconds_left": 90.0,
        "error": "",
        "started": pd.Timestamp("2026-01-01"),
    }
    return jobs.Job("id", "Measure V on sentiment (test)", ("evaluate", "--set", "x"), state, **{**base, **fields})


def test_a_running_measurement_shows_its_progress_and_can_be_cancelled(monkeypatch):
    ready_runs.make_run()
    cancelled: list[str] = []
    monkeypatch.setattr(measuring, "of_run", lambda run: [pretended("running")])
    monkeypatch.setattr(jobs, "cancel", cancelled.append)
    test = opened()
    (bar,) = test.get("progress")
    assert bar.proto.value == 25
    assert "1 min 30 s left" in bar.proto.text
    press(test, "Cancel")
    assert cancelled == ["id"]


def test_a_measurement_that_was_cancelled_says_what_is_kept(monkeypatch):
    ready_runs.make_run()
    monkeypatch.setattr(measuring, "of_run", lambda run: [pretended("cancelled")])
    assert "Cancelled. Sets that it chose among random features are kept" in said(opened())


def test_a_measurement_that_failed_says_why_and_can_be_put_away(monkeypatch):
    ready_runs.make_run()
    forgotten: list[str] = []
    monkeypatch.setattr(measuring, "of_run", lambda run: [pretended("failed", error="There is no task <b>x</b>.")])
    monkeypatch.setattr(jobs, "forget", forgotten.append)
    test = opened()
    assert "There is no task" in said(test)
    press(test, "Dismiss")
    assert forgotten == ["id"]


def test_only_measurements_of_this_runs_sets_are_shown(monkeypatch, cache):
    asked = [("evaluate", "--set", str(cache / "sets" / run / "v.json")) for run in ("run-1", "run-2")]
    every = [replace(pretended("running"), arguments=arguments) for arguments in (*asked, ("demo",))]
    monkeypatch.setattr(jobs, "jobs", lambda: every)
    assert measuring.of_run("run-1") == every[:1]


def test_a_measurement_really_runs_and_is_stored():
    model, saes = tiny.load()
    run = tiny.make_run(model, saes)
    body = stored_run.kept_sets(run)["A"].to_json()
    asked = measuring.Measurement(measuring.NamedSet(run, "A", body), "sentiment", "test", limit=6, controls=1)
    id = measuring.start(asked, run_facts.facts(run).config)
    until = time.monotonic() + 600
    while jobs.job(id).state == "running" and time.monotonic() < until:
        time.sleep(0.1)
    assert jobs.job(id).state == "finished", jobs.job(id).error
    (summary,) = measurements.evaluations(run)["summary"]
    assert summary["n"] == 6
    assert set(summary["controls"]) == {"random 1", "sign flipped", "unigram"}
    test = opened()
    assert "A on sentiment, test samples" in said(test)
    assert jobs.jobs() == []  # its result is shown; the job is put away


# --- the result ----------------------------------------------------------------------------------


def evaluation(name: str, created: str, **summary: object) -> pd.DataFrame:
    rows = [
        ("a", "Review: one.", "Positive", " Negative", " Positive", 0.0, 1.0),
        ("b", "Review: two.", "Positive", " Positive", f" {fabricated.HOSTILE}", 1.0, 0.0),
        ("c", "Review: three <i>.", "Positive", " no", " nope", 0.0, 0.0),
        ("d", "Review: four.", "Positive", " yes", " yes", 1.0, 1.0),
    ]
    columns = ["sample", "prompt", "target", "unsteered", "steered", "outcome_unsteered", "outcome_steered"]
    base = {
        "task": "sentiment", "split": "test", "scale": 1.0, "n": 4, "unsteered_rate": 0.5, "steered_rate": 0.5,
        "unsteered_interval": [0.15, 0.85], "steered_interval": [0.15, 0.85], "positive_flips": 1, "negative_flips": 1,
        "changed": 3, "ser": 0.5, "negative_share": 1 / 3, "p": 1.0, "effect": 0.0,
        "fluency": {"unsteered": 1.0, "steered": 1.2}, "controls": {},
    }  # fmt: skip
    return pd.DataFrame(
        [
            {
                "name": name,
                "task": "sentiment",
                "split": "test",
                "scale": 1.0,
                "created": pd.Timestamp(created),
                "summary": json.dumps({**base, **summary}),
                "samples": pd.DataFrame(rows, columns=columns).to_json(orient="records"),
            }
        ]
    )


@pytest.fixture
def measured() -> str:
    run = ready_runs.make_run()
    with Writer(run) as store:
        store.replace("evaluations", evaluation(fabricated.HOSTILE, "2026-11-22 22:00"))
    return run


def test_the_verdict_and_the_numbers_of_the_newest_measurement(measured):
    ready_runs.make_run()
    text = said(opened())
    assert "Works: success rises from 65.0% to 80.0%" in text
    assert "Won / lost +10 / −1" in text
    assert "p = 0.012" in text


def points_of(chart) -> dict[str, dict]:
    """What a chart of rates shows, from above, by label."""
    figure = json.loads(chart.proto.spec)
    found = {
        label: {"rate": rate, "about": about, "symbol": trace["marker"]["symbol"]}
        for trace in figure["data"]
        for label, rate, about in zip(trace["y"], numbers(trace["x"]), trace["customdata"], strict=True)
    }
    return {label: found[label] for label in figure["layout"]["yaxis"]["categoryarray"]}


def numbers(packed) -> list[float]:
    """Numbers as Plotly writes them: a list, or bytes."""
    if isinstance(packed, list):
        return packed
    return np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"]).tolist()


def test_the_chart_holds_the_set_and_its_controls_with_their_intervals():
    ready_runs.make_run()
    test = opened()
    (chart,) = test.get("plotly_chart")
    assert list(points_of(chart)) == [
        "unsteered",
        "V",
        "random 1",
        "random 2",
        "sign turned round",
    ]
    assert "No controls were measured" not in said(test)


def test_a_measurement_without_controls_says_so(measured):
    assert "No controls were measured" in said(opened())


def test_samples_are_told_apart_by_what_became_of_them(measured):
    test = unfolded(opened())
    choice = next(one for one in test.segmented_control if one.label == "Which samples")
    assert [option.content for option in choice.proto.options] == [
        "Won (1)",
        "Lost (1)",
        "Text changed only (1)",
        "Unchanged (1)",
        "All (4)",
    ]
    seen = []
    for kind in ("won", "lost", "changed", "same"):
        next(one for one in test.segmented_control if one.label == "Which samples").set_value(kind).run()
        seen.append(flips(test))
    assert ["one." in seen[0], "two." in seen[1], "three" in seen[2], "four." in seen[3]] == [True] * 4
    assert ">Positive</ins>" in seen[0]
    assert "✗ no success" in seen[0]
    assert "<ins" not in seen[3]


def fold(test: AppTest):
    """What the samples are folded into."""
    return next(one for one in test.expander if one.label.endswith("with both answers"))


def unfolded(test: AppTest) -> AppTest:
    """With the samples unfolded, as by a click."""
    test.session_state[re.search("flips-.*-opened", fold(test).proto.id)[0]] = True
    return test.run()


def is_open(test: AppTest) -> bool:
    """Whether the samples are unfolded."""
    return fold(test).proto.expanded


def test_what_is_folded_is_drawn_when_it_is_opened(measured):
    test = opened(form=False)
    assert not [one for one in test.segmented_control if one.key == "measure_kind"]
    assert not [one for one in test.get("html") if "cs-flips" in str(one.proto.body)]
    test.session_state["measure-False"] = True
    unfolded(test)
    assert [one for one in test.segmented_control if one.key == "measure_kind"]
    assert flips(test)


def test_the_form_keeps_what_it_holds_while_it_is_folded(measured):
    def box(test):
        return next(one for one in test.text_input if one.label == "A better prompt of your own")

    test = opened()
    box(test).set_value("Mind the irony.").run()
    for unfold in (False, True):
        test.session_state["measure-False"] = unfold
        test.run()
    assert box(test).value == "Mind the irony."


def test_the_samples_are_folded_behind_a_line_until_they_are_looked_for(measured):
    test = opened()
    assert (
        "Of 4 samples: 1 won (success only when steered), 1 lost (success only without), 1 with another text but the same "
        "outcome, 1 unchanged." in said(test)
    )
    assert not is_open(test)
    assert fold(test).label == "1 of 4 samples (won) with both answers"
    next(one for one in test.segmented_control if one.label == "Which samples").set_value("").run()
    assert is_open(test)
    assert fold(test).label == "All 4 samples with both answers"
    again = opened()
    next(one for one in again.text_input if one.label == "Search").set_value("one").run()
    assert is_open(again)


def shown_samples(test: AppTest) -> list[str]:
    """Of the samples in the table, the prompts."""
    return [row.split("</div>")[0].rpartition(">")[2] for row in flips(test).split("<tr>")[2:]]


def test_samples_are_found_by_outcome_right_answer_and_words():
    run = ready_runs.make_run()
    with Writer(run) as store:
        rows = pd.DataFrame(json.loads(store.query("SELECT samples FROM evaluations")["samples"][0]))
        rows["target"] = ["Positive" if place % 3 else "Negative" for place in range(len(rows))]
        rows.loc[5, "steered"] = " A  Quaint\nword"
        store.query("UPDATE evaluations SET samples = $new", {"new": rows.to_json(orient="records")})
    test = opened()
    next(one for one in test.segmented_control if one.label == "Which samples").set_value("").run()
    assert len(shown_samples(test)) == 20
    choose(test, "Right answer", "Negative")
    test.run()
    assert fold(test).label == f"{sum(rows['target'] == 'Negative')} of {len(rows)} samples with both answers"
    assert flips(test).count("Right answer: Negative") == len(shown_samples(test)) == 20
    choose(test, "Right answer", "")
    search = next(one for one in test.text_input if one.label == "Search")
    search.set_value("a quaint WORD").run()
    assert fold(test).label == f"1 of {len(rows)} samples with both answers"
    assert "Quaint" in flips(test)
    assert len(shown_samples(test)) == 1
    search.set_value("(nowhere").run()
    assert "No sample is like this" in said(test)
    assert not test.exception


def test_filters_keep_what_is_asked_for_and_the_order():
    rows = pd.DataFrame(
        {
            "prompt": ["one", "two", "three", "four"],
            "target": ["any", None, "b", float("nan")],
            "unsteered": ["x", "ß", "", "x.y"],
            "steered": ["X", "y", "", "z"],
            "flip": ["won", "lost", "changed", "won"],
        }
    )
    for wanted, expected in (
        (Wanted(), [0, 1, 2, 3]),
        (Wanted(flip="won"), [0, 3]),
        (Wanted(right="any"), [0]),
        (Wanted(text="x"), [0, 3]),
        (Wanted(text="SS"), [1]),
        (Wanted(text="."), [3]),
        (Wanted(text="none"), []),
        (Wanted(text="nan"), []),
        (Wanted(flip="won", text="one"), [0]),
    ):
        assert wanted.of(rows).index.tolist() == expected, wanted
    assert classes(rows) == ["any", "b"]
    assert classes(rows.head(1)) == []
    assert classes(pd.DataFrame({"target": [str(place) for place in range(31)]})) == []


def test_model_text_and_names_are_only_text(measured):
    test = opened()
    next(one for one in test.segmented_control if one.label == "Which samples").set_value("lost").run()
    assert not test.exception
    for banned in ("<script", "<img", "\u202e", "\x07"):
        assert banned not in flips(test)
    assert all(name.isprintable() for name in test.dataframe[0].value["Set"])
    next(one for one in test.segmented_control if one.label == "Which samples").set_value("changed").run()
    assert "<i>" not in flips(test)


def test_the_selected_row_of_the_table_is_the_one_that_is_shown():
    run = ready_runs.make_run()
    with Writer(run) as store:
        store.add("evaluations", evaluation("older", "2026-11-01 10:00"))
    test = opened()
    assert test.dataframe[0].value["Set"].tolist() == ["V", "older"]
    assert test.dataframe[0].value["Verdict"].tolist() == ["works", "not shown"]
    key = test.dataframe[0].proto.id.split("-", 2)[2]
    assert key.startswith("evaluation_table")
    test.session_state[key] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    test.run()
    assert "older on sentiment" in said(test)


def test_many_samples_come_in_pages():
    ready_runs.make_run()
    test = unfolded(opened())
    page = next(one for one in test.number_input if one.label.startswith("Page, of"))
    first = flips(test)
    page.set_value(2).run()
    assert flips(test) != first
    assert first.count("<tr>") == 21


# --- tasks with classes --------------------------------------------------------------------------


def test_a_changed_prior_is_said_under_the_verdict_in_the_report_s_words():
    ready_runs.make_run(classes=True)
    test = opened()
    text = said(test)
    words = prior_words.prior_words({"n": 60, **fabricated.OF_CLASSES})
    assert "Shifts the answers:" in text
    assert not test.success
    for part in (prior_words.TITLE, words.sentence, words.remark, *(one.note for one in words.figures)):
        assert part in text, part
    for one in words.figures:
        assert f"{one.label} {one.value}" in text
    tables = [one.value for one in test.dataframe if one.value.columns[0] in ("Class", "Right answer")]
    assert [list(map(tuple, one.to_numpy())) for one in tables] == [
        list(one.rows) for one in (words.classes, *words.confusion)
    ]


def test_constants_and_matched_sets_stand_in_the_chart():
    ready_runs.make_run(classes=True)
    (chart,) = opened().get("plotly_chart")
    points = points_of(chart)
    assert list(points) == [
        *("unsteered", "V", rate_rows.UNSTEERED_OFFSET, rate_rows.STEERED_OFFSET),
        *("random 1", "random 2", rate_rows.TURNED, "matched 1"),
    ]
    symbols = {label: point["symbol"] for label, point in points.items()}
    assert symbols[rate_rows.UNSTEERED_OFFSET] == symbols[rate_rows.STEERED_OFFSET] == "diamond"
    assert symbols["matched 1"] == "diamond-open"
    assert points[rate_rows.STEERED_OFFSET]["rate"] == 47 / 60


RIVAL = {
    "rival": "prompt: <b>a</b> rule", "kind": "prompt", "n": 60, "rate": 0.9, "rate_interval": [0.8, 0.95], "effect": 0.25,
    "difference": -0.1, "difference_interval": [-0.2, -0.01], "positive_flips": 2, "negative_flips": 8, "p": 0.1,
    "p_corrected": 0.2,
}  # fmt: skip
LEFT_OUT = {"rival": "constrained decoding", "why": "Answers to x cannot be held to choices of one token each."}


def test_a_tournament_is_one_chart_with_the_set_highlighted_and_its_numbers():
    run = ready_runs.make_run()
    with Writer(run) as store:
        rows = store.query("SELECT * FROM evaluations").drop(columns="run")
        summary = {**json.loads(rows["summary"][0]), "tournament": [RIVAL], "left_out": [LEFT_OUT]}
        store.replace("evaluations", rows.assign(summary=json.dumps(summary)))
    test = opened()
    _, chart = test.get("plotly_chart")
    points = points_of(chart)
    assert list(points) == ["unsteered", "prompt: &lt;b&gt;a&lt;/b&gt; rule", "V"]
    assert [point["symbol"] for point in points.values()] == ["square", "diamond-open", "circle"]
    (rival,) = (point for label, point in points.items() if label.startswith("prompt"))
    assert (rival["rate"], rival["about"]) == (0.9, [0.8, 0.95, "+25.0 points"])
    (table,) = (one.value for one in test.dataframe if one.value.columns[0] == "Rival")
    assert table.to_numpy().tolist() == [
        ["prompt: <b>a</b> rule", "90.0%", "+25.0 points", tables.text("+2 / −8"), "p = 0.20"]
    ]
    text = said(test)
    assert tournament_words.TITLE in text
    assert "A better prompt does as much: success rises from 65.0% to 80.0%" in text
    assert "Not measured: constrained decoding. Answers to x" in text


def test_a_control_that_was_left_out_is_no_rival():
    run = ready_runs.make_run()
    with Writer(run) as store:
        rows = store.query("SELECT * FROM evaluations").drop(columns="run")
        summary = {**json.loads(rows["summary"][0]), "left_out": [{"rival": "sign flipped", "why": "It clamps."}]}
        store.replace("evaluations", rows.assign(summary=json.dumps(summary)))
    text = said(opened())
    assert "Not measured: sign turned round. It clamps." in text
    assert tournament_words.TITLE not in text


def test_a_measurement_without_rivals_has_no_tournament():
    ready_runs.make_run()
    assert tournament_words.TITLE not in said(opened())


def test_rivals_chosen_in_the_form_are_asked_for(started):
    ready_runs.make_run()
    test = opened()
    (kinds,) = (one for one in test.multiselect if one.label.startswith("Put it against"))
    kinds.set_value(["prompts", "constrained"]).run()
    (own,) = (one for one in test.text_input if one.label.startswith("A better prompt"))
    own.set_value("--Be careful, please.").run()
    press(test, "Measure")
    options = vars(main.parser().parse_args(started[0]))
    assert options["against"] == ("prompts", "constrained")
    assert options["against_system"] == ["--Be careful, please."]


def test_nothing_is_put_against_a_set_unless_it_is_asked_for(started):
    ready_runs.make_run()
    press(opened(), "Measure")
    assert not any(word.startswith("--against") for word in started[0])


def test_a_measurement_without_classes_has_no_such_block():
    ready_runs.make_run()
    assert prior_words.TITLE not in said(opened())


def test_names_of_classes_are_only_text():
    run = ready_runs.make_run(classes=True)
    with Writer(run) as store:
        rows = store.query("SELECT * FROM evaluations").drop(columns="run")
        hostile = json.dumps(fabricated.HOSTILE)[1:-1]
        store.replace("evaluations", rows.assign(summary=rows["summary"].str.replace("Negative", hostile, regex=False)))
    test = opened()
    assert not test.error
    raw = "\n".join(str(one.value) for kind in ("markdown", "caption", "warning") for one in test.get(kind))
    assert "<script>" not in raw
    assert "\u202e" not in raw


def test_every_kind_of_verdict_has_a_sign_and_only_what_works_looks_like_success():
    assert set(verdict_box.SIGNS) == set(verdict.WORDS)
    green = [kind for kind, (box, _) in verdict_box.SIGNS.items() if box == st.success]
    assert green == ["works"]
    assert verdict_box.SIGNS["shifts"][0] == st.warning


def test_shifted_samples_are_offered_for_tasks_that_have_them(started):
    ready_runs.make_run()
    test = opened()

    def offered() -> list[str]:
        return next(one for one in test.selectbox if one.label == "Samples").options

    assert "Shifted: made otherwise, never chosen on" in offered()
    without = next(name for name, task in TASKS.items() if not has_shifted(task))
    choose(test, "Task", without)
    test.run()
    assert not any("Shifted" in one for one in offered())
    choose(test, "Task", "sentiment")
    test.run()
    choose(test, "Samples", "shifted")
    press(test, "Measure")
    assert started[0][5:7] == ["--split", "shifted"]


def test_a_sweep_names_the_task_that_has_no_shifted_samples(started):
    ready_runs.make_run()
    test = kind(opened(), "scales")
    without = next(name for name, task in TASKS.items() if not has_shifted(task))
    next(one for one in test.multiselect if one.label == "Tasks").set_value(["sentiment", without])
    choose(test, "Samples", "shifted")
    press(test, "Measure")
    assert f"no shifted samples of {TASKS[without].title}" in said(test)
    assert not started


def test_the_measurement_that_the_sets_file_carries_is_told(cache):
    model, saes = tiny.load()
    run = tiny.make_run(model, saes)
    steering = stored_run.kept_sets(run)["A"]
    told = "The set's file carries this measurement as evidence"
    evaluate_set(steering, get_task("sentiment"), scale=2.0, limit=4, model=model, saes=saes)
    assert told not in " ".join(one.value for one in opened().caption), "at another scale than the set's own"
    evaluate_set(steering, get_task("sentiment"), limit=4, model=model, saes=saes)
    assert told in " ".join(one.value for one in opened().caption)
    stored_run.keep_set(run, steering.with_rows(steering.rows[:1]), "A")
    assert told not in " ".join(one.value for one in opened().caption), "the set was changed since"
