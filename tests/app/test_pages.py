"""The Overview and Features pages on made-up runs: what is shown, filtered, chosen, and said when there is nothing."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.features import drawing
from app.overview import page as overview
from app.overview import run_comparison
from app.shared import components, models, resources, state
from corrsteer_core.base import jobs
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.inspection import descriptions
from corrsteer_core.runs import feature_facts, feature_lists, run_facts
from corrsteer_core.runs.fit import FitSettings, fit
from corrsteer_core.storage import deleting, reading, run_folder, writing
from corrsteer_core.storage.writing import Writer
from tests.app import ready_runs
from tests.app.steer_session import held
from tests.made import fabricated

MAIN = str(Path(__file__).parents[2] / "app" / "main.py")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    models._bench.clear()  # it is kept by the model's name, which these runs share
    return tmp_path


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """These runs are made up: there is no model that could say more of their features."""

    def failed(bench: object, progress: object) -> None:
        raise CorrSteerError("No model in this test.")

    monkeypatch.setattr(drawing, "Work", lambda bench, do: Work(bench, failed))
    monkeypatch.setattr(drawing.models, "Bench", NoBench)


Work = drawing.Work


class NoBench:
    """A bench without a model."""

    def __init__(self, name: str, dtype: str) -> None:
        self.problem = ""


def drawn(test: AppTest) -> AppTest:
    """A feature's page, once what needs the model has been tried."""
    run, (layer, feature) = (
        test.session_state["current_run"],
        (int(test.query_params[key][0]) for key in ("layer", "feature")),
    )
    assert drawing.profile(run, layer, feature).wait(600)
    return test.run()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of the jobs that a page starts; none is run."""
    found: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda arguments, title: found.append(list(arguments)) or "id")
    return found


def opened(page: str = "overview", /, *, pane: str | None = "Table", **link: object) -> AppTest:
    """A page, drawn, as if its link had been followed; of the features, the pane that is looked at (None: the first)."""
    test = AppTest.from_file(MAIN, default_timeout=600)
    if pane is not None:
        test.session_state["pane"] = pane
    if page != "overview":  # which page a link means is known once the pages are
        test.run()
        test._page_hash = test.session_state["pages"][page]._script_hash
    for name, value in link.items():
        test.query_params[name] = str(value)
    test.run()
    assert not test.exception
    return test


def words(test: AppTest) -> str:
    """Everything said on the page."""
    kinds = ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error", "success", "text")
    said = [str(one.value) for kind in kinds for one in test.get(kind)]
    said += [f"{one.label} {one.value} {one.delta}" for one in test.metric]
    return "\n".join(said).replace("\\", "")


def table(test: AppTest):
    return test.dataframe[0].value


def press(test: AppTest, label: str) -> AppTest:
    next(one for one in test.button if one.label == label).click()
    return test.run()


# --- nothing there, something broken -------------------------------------------------------------


@pytest.mark.parametrize("page", ["overview", "features"])
def test_without_any_run_each_page_says_what_to_do(page):
    said = words(opened(page))
    assert "There is no run yet" in said
    assert "went wrong" not in said


def test_a_damaged_run_is_a_message_and_the_others_stay_usable(cache):
    run = ready_runs.make_run()
    broken = run_folder.runs_dir() / "broken-1"
    broken.mkdir()
    (broken / run_folder.PUBLISHED).write_bytes(b"no database")
    test = opened()
    assert "cannot be read" in words(test)
    assert test.session_state["current_run"] == run
    assert "Works" in words(test)


def test_only_a_damaged_run_is_still_a_page(cache):
    broken = run_folder.runs_dir() / "broken-1"
    broken.mkdir(parents=True)
    (broken / run_folder.PUBLISHED).write_bytes(b"no database")
    assert "cannot be read" in words(opened())
    assert "There is no run yet" in words(opened("features"))


def test_a_link_to_a_run_that_is_not_there_says_so_and_shows_another():
    run = ready_runs.make_run()
    for name in ("gone-1", "../../etc", "<script>"):
        test = opened(run=name)
        assert "There is no readable run named" in words(test)
        assert test.session_state["current_run"] == run


def test_what_a_link_says_of_a_run_that_is_not_there_is_not_taken_for_another():
    ready_runs.make_run()
    test = opened("features", run="gone-1", layer=8, feature=41)
    assert not test.subheader
    assert list(test.query_params) == ["run"]


def test_what_a_link_says_of_a_run_goes_with_it():
    first, second = ready_runs.make_run(), ready_runs.make_run("capitals-0fab1e01", task="capitals", seed=1)
    test = opened("features", run=first, layer=8, feature=41, set="V", page="x")
    held(test, "selectbox", "run_choice").select(second).run()
    assert list(test.query_params) == ["run"]


def test_a_bug_is_an_apology_without_a_traceback(cache, monkeypatch):
    ready_runs.make_run()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(overview, "headline", broken)
    components.log.handlers.clear()
    test = opened()
    assert "Sorry, something went wrong" in words(test)
    assert "secret detail" not in words(test)
    assert "secret detail" in (cache / "app.log").read_text()
    components.log.handlers.clear()


def test_the_log_does_not_grow_without_end(cache, monkeypatch):
    monkeypatch.setattr(components, "LARGEST_LOG", 2_000)
    components.log.handlers.clear()
    components.log_to_file()
    for _ in range(100):
        components.log.error("x" * 100)
    assert sum(file.stat().st_size for file in cache.glob("app.log*")) <= 4_000
    components.log.handlers.clear()


# --- overview ------------------------------------------------------------------------------------


def test_the_overview_tells_what_came_of_the_run():
    ready_runs.make_run()
    said = words(opened())
    assert "Works: success rises from 65.0% to 80.0%" in said
    assert "Layer 22 · feature 7" in said
    assert "Layer 8 · feature 41" in said
    assert "A high r often marks what follows from success" in said


def test_shifted_answers_are_said_above_the_numbers_and_do_not_look_like_success():
    ready_runs.make_run(classes=True)
    test = opened()
    (box,) = [one.value.replace("\\", "") for one in test.warning]
    assert "Shifts the answers: success rises from 65.0% to 80.0%" in box
    assert "takes the unsteered model to 76.7%, and the steered one to 78.3%" in box
    assert "right on Negative 40% to 84%" in box
    assert not test.success
    assert "(+1.7 points, p" in box


def test_a_run_of_noise_is_called_noise():
    ready_runs.make_run(noise=True, seed=1)
    said = words(opened())
    assert "This ranking is no better than chance" in said
    assert "Works" not in said


def test_a_constant_outcome_is_said_plainly():
    ready_runs.make_run(constant=True, measured=False)
    for page in ("overview", "features"):
        assert "the outcome never changes" in words(opened(page))


@pytest.mark.parametrize("page", ["overview", "features"])
def test_rates_by_kind_of_answer_are_one_click_away(page):
    run = ready_runs.make_run(classes=True)
    summary = run_facts.headline(run)
    test = opened(page)
    (popover,) = (one for one in test.get("popover") if one.proto.popover.label == "By kind of answer")
    (shown,) = popover.dataframe
    want = [(row["class"], f"{row['unsteered_rate']:.1%}", f"{row['steered_rate']:.1%}") for row in summary["classes"]]
    got = shown.value[["Class", "Right unsteered", "Right steered"]].itertuples(index=False, name=None)
    assert list(got) == want
    assert "on Negative 40% to 84%, on Positive 83% to 77%" in words(test)


@pytest.mark.parametrize("page", ["overview", "features"])
def test_without_classes_there_is_nothing_to_open(page):
    ready_runs.make_run()
    assert not [one for one in opened(page).get("popover") if one.proto.popover.label == "By kind of answer"]


def test_an_unfinished_run_can_be_gone_on_with(started):
    run = ready_runs.make_run(collected=0.4, fitted=False, measured=False)
    test = opened()
    assert "112 of 280" in words(test)
    press(test, "Go on with it")
    assert started == [[*run_facts.fit_arguments(run), "--describe=60"]]
    assert "not ranked yet" in words(opened("features"))


def working(run: str, *arguments: str) -> AppTest:
    """The overview while a job with these arguments of `fit` is running."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "jobs", lambda: [job("running", arguments=("fit", *arguments))])
        return opened(run=run)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sae=embedded", "--pooling=max"],
        ["--layers=22,8,15", "--max-new-tokens=1", "--pooling=max", "--no-chat"],
    ],
)
def test_a_run_that_is_being_made_is_not_offered_to_be_gone_on_with(arguments):
    run = ready_runs.make_run(collected=0.4, fitted=False, measured=False)
    own = ["--task=sentiment", "--model=SmolLM2-135M-Instruct"]
    for some in ([*own, *arguments], run_facts.fit_arguments(run)[1:]):
        assert "still being collected" in words(working(run, *some))


@pytest.mark.parametrize(
    "other",
    ["--model=tiny", "--preset=gemma-3-270m-it", "--limit=50", "--layers=8", "--max-new-tokens=9", "--pooling=mean", "--shots=2",
     "--chat", "--system=Be brief.", "--sae=saes/other"],
)  # fmt: skip
def test_another_run_of_the_same_task_does_not_hide_how_to_go_on(other):
    run = ready_runs.make_run(collected=0.4, fitted=False, measured=False)
    own = ["--task=sentiment", "--model=SmolLM2-135M-Instruct", "--pooling=max"]
    test = working(run, *(one for one in own if one.split("=")[0] != other.split("=")[0]), other)
    assert "Go on with it" in [one.label for one in test.button]


def test_why_features_cannot_be_tried_is_said():
    ready_runs.make_run(constant=True, measured=False)
    test = opened()
    assert "no best features to try" in words(test)
    assert next(one for one in test.button if one.label == "Try them").disabled


def test_the_model_s_name_is_text():
    run = ready_runs.make_run()
    with writing.Writer(run) as writer:
        rows = writer.query("SELECT * EXCLUDE (run) FROM runs")
        rows["config"] = rows["config"].str.replace("SmolLM2-135M-Instruct", "a/**b** $x$")
        writer.replace("runs", rows)
    assert components.for_markdown("**b** $x$") in opened().caption[0].value


def test_a_selection_does_not_move_to_another_run_when_the_runs_change_places(monkeypatch):
    runs = [ready_runs.make_run(), ready_runs.make_run("capitals-0fab1e01", task="capitals", seed=1)]
    keys: list[str] = []

    def drawn(*_: object, key: str = "", **__: object) -> dict:
        if key.startswith("runs-"):
            keys.append(key)
        return {"selection": {"rows": []}}

    monkeypatch.setattr(st, "dataframe", drawn)
    for newest in (*runs, runs[1]):
        os.utime(run_folder.runs_dir() / newest)
        assert run_folder.run_names()[0] == newest
        opened()
    assert keys[0] != keys[1] == keys[2]


def test_only_the_run_that_has_changed_is_read_again(monkeypatch):
    first, second = ready_runs.make_run(), ready_runs.make_run("capitals-0fab1e01", task="capitals", seed=1)
    asked: list[str] = []
    row = run_facts.run_row
    monkeypatch.setattr(run_facts, "run_row", lambda run: asked.append(run) or row(run))
    assert sorted(resources.runs()["run"]) == sorted([first, second])
    assert sorted(asked) == sorted([first, second])
    os.utime(run_folder.database_path(first))
    assert sorted(resources.runs()["run"]) == sorted([first, second])
    assert asked[2:] == [first]


def test_a_ranked_run_without_effects_offers_to_try_features(started):
    run = ready_runs.make_run(measured=False)
    press(opened(), "Try them")
    assert started == [["select", run, "--strategy=V"]]


def test_home_is_the_newest_run_with_a_measured_set():
    measured = ready_runs.make_run()
    raw = ready_runs.make_run("capitals-0fab1e01", task="capitals", fitted=False, measured=False, collected=0.5)
    assert run_folder.run_names() == [raw, measured]
    assert opened().session_state["current_run"] == measured


def test_a_feature_is_one_step_of_the_history_of_the_browser(monkeypatch):
    run = ready_runs.make_run()
    test = opened("features", run=run, layer=8, feature=41)
    assert "Layer 8 · feature 41" in words(test)
    seen: list[dict] = []
    monkeypatch.setattr(st, "query_params", Address(seen, run=run, layer="8", feature="41"))
    state.open_feature(22, 7)
    state.close_feature()
    assert seen == [{"run": run, "layer": "22", "feature": "7"}, {"run": run}]


class Address(dict):
    """The address, which notes every change as the browser would."""

    def __init__(self, seen: list[dict], **parameters: str) -> None:
        super().__init__(parameters)
        self._seen = seen

    def __setitem__(self, key: str, value: str) -> None:
        super().__setitem__(key, value)
        self._seen.append(dict(self))

    def update(self, other: dict) -> None:  # type: ignore[override]
        super().update(other)
        self._seen.append(dict(self))

    def pop(self, key: str, *default: str) -> str:
        found = super().pop(key, *default)
        self._seen.append(dict(self))
        return found

    def get_all(self, key: str) -> list[str]:
        return [self[key]]

    def from_dict(self, kept: dict) -> None:
        super().clear()
        super().update({key: value[-1] for key, value in kept.items()})
        self._seen.append(dict(self))


def test_an_error_of_the_command_line_names_the_field_of_the_form():
    said = components.in_words_of_the_page("Layer 99 is not there; give --layers one of 8, 15, or --limit, not --x-y.")
    assert said == "Layer 99 is not there; give “Layers” one of 8, 15, or “Samples, at most”, not --x-y."


def job(state: jobs.State, **other: object) -> jobs.Job:
    about = {
        "id": "20260101-000000-abcdef",
        "title": "Sentiment",
        "arguments": ("demo",),
        "stage": "correlating",
        "share": 0.4,
    }
    return jobs.Job(**{**about, "state": state, "seconds_left": 65.0, "error": "", "started": None, **other})  # type: ignore[arg-type]


def test_running_work_shows_its_stage_its_share_and_the_time_left(monkeypatch):
    monkeypatch.setattr(jobs, "jobs", lambda: [job("running")])
    cancelled: list[str] = []
    monkeypatch.setattr(jobs, "cancel", cancelled.append)
    test = opened()
    assert test.get("progress")[0].proto.text == "40% · correlating · about 1 min 05 s left"
    press(test, "Cancel")
    assert cancelled == ["20260101-000000-abcdef"]


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("demo", "it goes on from there"),
        ("fit", "it goes on from there"),
        ("select", "it goes on from there"),
        ("evaluate", "Sets that it chose among random features are kept"),
        ("describe", "Nothing of it is kept; it will begin again from the start"),
        ("transfer", "tasks it has finished are kept; it will begin again from the start"),
    ],
)
def test_what_stopping_leaves_is_said_of_each_kind_of_work(monkeypatch, command, kept):
    state: list[jobs.State] = ["cancelled"]
    monkeypatch.setattr(jobs, "jobs", lambda: [job(state[0], arguments=(command, "x"))])
    said = words(opened())
    assert "Stopped." in said
    assert kept in said
    state[0] = "running"
    assert kept in next(one for one in opened().button if one.label == "Cancel").help


def test_work_that_another_window_has_put_away_is_no_error_here(monkeypatch):
    ready_runs.make_run()
    monkeypatch.setattr(jobs, "jobs", lambda: [job("cancelled")])  # as it was when the page was drawn
    test = press(opened(), "Dismiss")
    assert not test.exception
    assert not test.error
    test = press(opened(), "Go on")
    assert not test.exception
    assert "There is no job" in test.error[0].value
    assert "Runs" in words(test)  # the rest of the page is there
    monkeypatch.setattr(jobs, "jobs", lambda: [job("running")])
    test = press(opened(), "Cancel")
    assert not test.exception
    assert not test.error


def test_failed_work_shows_its_sentence_as_text(monkeypatch):
    monkeypatch.setattr(jobs, "jobs", lambda: [job("failed", error="There is no <b>task</b> 'x'.")])
    test = opened()
    assert "There is no <b>task</b> 'x'." in words(test)
    assert not any(one.allow_html for one in test.markdown)


def test_deleting_asks_first():
    run = ready_runs.make_run()
    test = AppTest.from_string(
        f"from app.overview.page import confirm_delete\nconfirm_delete({run!r})", default_timeout=600
    )
    test.run()
    assert run in words(test)
    assert run_folder.run_names() == [run]
    press(test, "Delete")
    assert run_folder.run_names() == []


def test_a_run_that_is_being_written_is_not_deleted():
    run = ready_runs.make_run()
    test = AppTest.from_string(
        f"from app.overview.page import confirm_delete\nconfirm_delete({run!r})", default_timeout=600
    )
    test.run()
    with writing.Writer(run):
        press(test, "Delete")
        assert "being written by another process" in words(test)
    assert run_folder.run_names() == [run]


# --- features ------------------------------------------------------------------------------------


def test_the_table_is_the_ranking_highest_r_first():
    run = ready_runs.make_run()
    rows = table(opened("features"))
    expected = feature_lists.features(run, feature_lists.FeatureFilter(support=5), limit=len(rows))
    assert rows["layer"].tolist() == expected["layer"].tolist()
    assert rows["feature"].tolist() == expected["feature"].tolist()
    assert rows["r"].tolist() == [f"{value:+.3f}".replace("-", "−") for value in sorted(expected["r"], reverse=True)]
    assert rows["effect"].iloc[0] == f"−{-100 * expected['effect'].iloc[0]:.1f}"


def test_each_run_is_on_a_page_of_its_own(monkeypatch):
    keys: list[str] = []
    monkeypatch.setattr(st, "pagination", lambda *_, key, **__: keys.append(key) or 1)
    for run in (ready_runs.make_run(), ready_runs.make_run("capitals-0fab1e01", task="capitals", seed=1)):
        opened("features", run=run)
    assert len(set(keys)) == 2


def test_filters_and_sorting_go_through_the_whole_run():
    run = ready_runs.make_run()
    test = opened("features")
    test.multiselect(key="filter_layers").select(8)
    test.selectbox(key="filter_sort").select("effect")
    test.run()
    rows = table(test)
    assert set(rows["layer"]) == {8}
    assert rows["feature"].iloc[0] == fabricated.BEST_EFFECT[1]
    wanted = feature_lists.FeatureFilter(layers=(8,), support=5)
    assert f"{feature_lists.count_features(run, wanted):,} features" in words(test)


def test_words_are_searched_in_the_top_texts():
    run = ready_runs.make_run()
    test = opened("features")
    test.text_input(key="filter_text").input("number 17").run()
    wanted = feature_lists.FeatureFilter(text="number 17", support=5)
    assert f"{feature_lists.count_features(run, wanted):,} features" in words(test)


def test_filters_that_nothing_passes_say_so():
    ready_runs.make_run()
    test = opened("features")
    test.text_input(key="filter_text").input("zebra").run()
    assert "No feature passes these filters" in words(test)


def test_the_highest_r_and_the_best_effect_are_told_apart():
    ready_runs.make_run()
    said = words(opened("features"))
    assert "layer 22 feature 7" in said
    assert "The best effect is another's: layer 8 feature 41" in said


def test_noise_is_said_above_the_table():
    ready_runs.make_run(noise=True, seed=1)
    assert "This ranking is no better than chance" in words(opened("features"))


@pytest.mark.parametrize("pane", ["r and effect", "r by layer", "r by rank", "r and frequency"])
def test_each_picture_says_how_to_read_it_and_has_its_numbers_behind_it(pane):
    ready_runs.make_run()
    test = opened("features")
    test.button_group(key="pane").set_value(pane).run()
    assert not test.exception
    assert len(test.get("plotly_chart")) == 1
    assert any("feature" in one.value for one in test.caption)
    assert "r" in table(test).columns


@pytest.mark.parametrize("measured", [True, False])
def test_what_features_do_comes_first_and_the_table_while_none_has_been_tried(measured):
    ready_runs.make_run(measured=measured)
    test = opened("features", pane=None)
    assert test.button_group(key="pane").value == ("r and effect" if measured else "Table")
    assert ("Each dot is a feature" in words(test)) == measured


def test_that_some_filled_dots_are_luck_is_said():
    run = ready_runs.make_run()
    test = opened("features")
    test.button_group(key="pane").set_value("r and effect").run()
    tried = len(feature_lists.best_effects(run))
    assert f"for some of {tried} dots is luck: each is the best of several scales" in words(test)


def test_how_many_samples_are_needed_is_a_picture_with_its_numbers():
    run = ready_runs.make_run()
    test = opened("features")
    test.button_group(key="pane").set_value("Samples needed").run()
    assert not test.exception
    assert table(test)["overlap"].iloc[-1] == 1
    assert table(test)["best_r"].iloc[-1] == pytest.approx(feature_lists.features(run)["r"].iloc[0])


def test_further_columns_can_be_filtered():
    run = ready_runs.make_run()
    test = opened("features")
    assert "narrowed by" not in words(test)
    test.slider(key="filter_incorrect").set_range(0, 20)
    test.number_input(key="filter_c_low").set_value(0.5)
    test.run()
    wanted = feature_lists.FeatureFilter(support=5, incorrect_high=0.2, coefficient_low=0.5)
    assert f"{feature_lists.count_features(run, wanted):,} features, narrowed by “More filters”" in words(test)


def test_the_best_features_can_be_described(started):
    run = ready_runs.make_run()
    press(opened("features"), "Describe them")
    assert started == [["describe", run]]


def test_the_effects_can_be_predicted(started):
    run = ready_runs.make_run()
    test = opened("features")
    assert "predicted_effect" not in table(test).columns
    test.button_group(key="pane").set_value("Predicted against measured").run()
    assert f"corrsteer predict {run}" in words(test)
    press(test, "Predict them")
    assert started == [["predict", run]]


def predicted(run: str) -> None:
    """Predict of every feature a thousandth of its number."""
    with Writer(run) as store:
        fitted = store.query("SELECT layer, feature, coefficient FROM features")
        shares = {"shift": None, "tilt": None, "toward": None, "share": 0.1}
        store.replace(
            "predictions",
            fitted.assign(own=True, predicted_effect=fitted["feature"] / 1000, **shares),
        )


def test_predictions_stand_in_the_table_and_in_a_picture_beside_what_was_measured():
    run = ready_runs.make_run()
    predicted(run)
    test = opened("features")
    shown = table(test).set_index("feature")["predicted_effect"]
    assert shown.loc[7] == "+0.7"
    test.button_group(key="pane").set_value("Predicted against measured").run()
    assert not test.exception
    found = feature_lists.effects(run)
    tried = found.loc[found.groupby(["layer", "feature"])["scale"].idxmin()]
    said = words(test)
    assert (
        f"Prediction and effect {tried['feature'].rank().corr(tried['effect'].rank()):+.2f}".replace("-", "−") in said
    )
    assert f"r and effect {tried['r'].rank().corr(tried['effect'].rank()):+.2f}".replace("-", "−") in said
    assert len(test.get("plotly_chart")) == 1
    behind = table(test).set_index(["layer", "feature"])
    assert behind["predicted"].to_dict() == pytest.approx(
        {(row.layer, row.feature): row.feature / 1000 * row.scale for row in tried.itertuples()}
    )


def test_predictions_without_any_feature_tried_are_said_to_wait():
    run = ready_runs.make_run(measured=False)
    predicted(run)
    test = opened("features")
    test.button_group(key="pane").set_value("Predicted against measured").run()
    assert "nothing to compare with" in words(test)
    assert not test.exception


def test_descriptions_stand_in_the_table_and_on_the_features_page():
    run = ready_runs.make_run()
    rows = [
        {"layer": 8, "feature": 41, "source": "neuronpedia", "description": "praise", "neuronpedia": "m/8-res"},
        {"layer": 22, "feature": 7, "source": "own", "description": "Makes “good” likelier", "promoted": "good"},
    ]
    descriptions.keep(run, pd.DataFrame(rows))
    test = opened("features")
    assert table(test).set_index("feature").loc[7, "described"] == "Makes “good” likelier (?)"
    test.text_input(key="filter_text").input("PRAISE").run()
    assert table(test)["feature"].tolist() == [41]
    said = words(opened("features", run=run, layer=8, feature=41))
    assert "praise" in said
    assert "https://www.neuronpedia.org/m/8-res/41" in said
    said = words(opened("features", run=run, layer=22, feature=7))
    assert descriptions.GUESS in said
    assert "neuronpedia.org" not in said


def test_what_a_language_model_said_of_a_feature_names_it_and_stays_text():
    run = ready_runs.make_run()
    row = {"layer": 22, "feature": 7, "source": descriptions.by_model("tiny-1"), "description": fabricated.HOSTILE}
    descriptions.keep(run, pd.DataFrame([row, {**row, "layer": 8, "feature": 41, "description": "praise"}]))
    test = opened("features")
    test.text_input(key="filter_text").input("praise").run()
    assert table(test).set_index("feature").loc[41, "described"] == "praise (by tiny-1)"
    assert "praise  \ndescribed by tiny-1; nobody has checked it" in words(
        opened("features", run=run, layer=8, feature=41)
    )
    test = opened("features", run=run, layer=22, feature=7)
    assert "described by tiny-1; nobody has checked it" in words(test)
    assert "\u202e" not in words(test)
    assert not any(one.allow_html for one in test.markdown)


def test_what_depends_on_samples_and_fit_alone_is_not_worked_out_again_when_something_else_is_written():
    run = ready_runs.make_run()
    before, drawn_before = resources.fit_stamp(run), drawing.profile(run, 8, 41)
    descriptions.keep(run, pd.DataFrame([{"layer": 8, "feature": 41, "source": "own", "description": "x"}]))
    with writing.Writer(run) as writer:
        writer.replace("sets", writer.query("SELECT * EXCLUDE (run) FROM sets LIMIT 1"))
    assert resources.fit_stamp(run) == before
    assert drawing.profile(run, 8, 41) is drawn_before
    with writing.Writer(run) as writer:
        fit(writer, FitSettings(permutations=20))
    assert resources.fit_stamp(run) != before
    deleting.delete_run(run)
    ready_runs.make_run(collected=0.9, fitted=False, measured=False)
    assert resources.fit_stamp(run) != before


def test_without_a_model_the_rest_of_a_feature_is_there():
    run = ready_runs.make_run()
    test = drawn(opened("features", run=run, layer=8, feature=41))
    assert "The parts of this page that need the model are missing: No model in this test." in words(test)
    assert len(test.get("plotly_chart")) == 2
    assert "What a lovely film" in "".join(one.proto.body for one in test.get("html"))


def test_from_a_feature_back_to_all():
    run = ready_runs.make_run()
    test = opened("features", run=run, layer=8, feature=41)
    assert not test.dataframe or "r" not in table(test).columns
    press(test, "All features")
    assert "feature" not in test.query_params
    assert "described" in table(test).columns


def test_a_link_opens_one_feature():
    run = ready_runs.make_run()
    layer, feature = fabricated.BEST_EFFECT
    test = opened("features", run=run, layer=layer, feature=feature)
    assert test.subheader[0].value == "Layer 8 · feature 41"
    assert "+20.0 points" in words(test)
    assert len(test.get("plotly_chart")) == 2


@pytest.mark.parametrize(("layer", "feature"), [("8", "999999"), ("99", "1")])
def test_a_link_to_a_feature_that_never_fired_says_so(layer, feature):
    run = ready_runs.make_run()
    assert "fired in no training sample" in words(opened("features", run=run, layer=layer, feature=feature))


@pytest.mark.parametrize(("layer", "feature"), [("-1", "x"), ("8", ""), ("²", "3"), ("8", "9" * 40)])
def test_a_link_that_is_nonsense_opens_nothing(layer, feature):
    run = ready_runs.make_run()
    test = opened("features", run=run, layer=layer, feature=feature)
    assert not test.subheader
    assert "described" in table(test).columns


def test_a_feature_goes_into_the_tray_once_and_out_again():
    run = ready_runs.make_run()
    layer, feature = fabricated.BEST_EFFECT
    test = opened("features", run=run, layer=layer, feature=feature)
    press(test, "Add to set")
    coefficient = feature_facts.one_feature(run, layer, feature)["coefficient"]
    assert test.session_state["tray"] == [{"layer": layer, "feature": feature, "coefficient": coefficient}]
    press(test, "Remove from set")
    assert test.session_state["tray"] == []


def test_a_feature_without_a_strength_of_its_own_says_so():
    run = ready_runs.make_run()
    rows = feature_lists.features(run, feature_lists.FeatureFilter(support=1), limit=1000)
    row = rows[rows["coefficient"] == 0].iloc[0]
    said = "It fires in no successful training sample"
    assert said in words(opened("features", run=run, layer=row["layer"], feature=row["feature"]))
    assert said not in words(opened("features", run=run, layer=8, feature=41))


def test_another_run_starts_with_an_empty_tray():
    first, second = ready_runs.make_run(), ready_runs.make_run("capitals-0fab1e01", task="capitals", seed=1)
    test = opened("features", run=first, layer=8, feature=41)
    press(test, "Add to set")
    held(test, "selectbox", "run_choice").select(second).run()
    assert test.session_state["current_run"] == second
    assert test.session_state["tray"] == []


def test_two_tabs_do_not_disturb_each_other():
    first, second = ready_runs.make_run(), ready_runs.make_run("capitals-0fab1e01", task="capitals", seed=1)
    one, two = opened("features", run=first), opened("features", run=second, layer=8, feature=41)
    one.run()
    assert one.session_state["current_run"] == first
    assert not one.subheader
    assert two.session_state["current_run"] == second


# --- what a model or a user wrote is text --------------------------------------------------------


def test_hostile_text_stays_text_on_both_pages():
    run = ready_runs.make_run(task="custom-<b>x</b>", text=fabricated.HOSTILE)
    row = {"layer": 8, "feature": 41, "source": "neuronpedia", "description": fabricated.HOSTILE}
    descriptions.keep(run, pd.DataFrame([row]))
    for test in (opened(run=run), opened("features", run=run, layer=8, feature=41)):
        html = "".join(one.proto.body for one in test.get("html"))
        assert "<script" not in html
        assert "<img" not in html
        assert "\u202e" not in html + words(test)
        assert not any(one.allow_html for one in test.markdown)
    assert "&lt;script&gt;" in html
    assert "⟨U+202E⟩" in html  # as everywhere else


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb\u200fc\x07d\x00", "abcd"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\ud800x", "x"),
        ("Zoë 日本 😀", "Zoë 日本 😀"),
    ],
)
def test_plain_text_keeps_letters_and_drops_what_acts(text, shown):
    assert components.plain(text) == shown


def test_markdown_in_text_is_escaped():
    escaped = components.for_markdown("**b** [x](ftp://y) `c` $m$ :red[z] <i> # h\n- item")
    assert escaped.replace("\\", "") == "**b** [x](ftp://y) `c` $m$ :red[z] <i> # h - item"
    for mark in "*[]()`$:<>#-":
        assert escaped.count(mark) == escaped.count(f"\\{mark}")


@pytest.mark.parametrize(
    "text",
    ["see https://x.y/z?a=b", "HTTP://x.y", "WWW.x.y or www.z.w", "x@y.z, (a.b+c@d-e.f)", "http://www.x.y/@z", "x\u2060@y.z"],
)  # fmt: skip
def test_a_bare_address_in_text_is_no_link(text):
    found = components.for_markdown(text).replace("\\", "")
    assert found.replace("\u2060", "") == components.plain(text)
    # What Streamlit's Markdown makes links of once the escapes are gone.
    assert not re.search(r"https?://|www\.[-.\w]|[-.\w+]@[-\w]", found, re.IGNORECASE)


def test_a_run_deleted_in_another_window_is_no_error_here():
    run = ready_runs.make_run()
    test = opened("features", run=run)
    deleting.delete_run(run)
    test.run()
    assert "There is no run yet" in words(test)
    assert not test.exception


# --- descriptions by upload ----------------------------------------------------------------------


def explained(*records: dict) -> bytes:
    return gzip.compress("\n".join(map(json.dumps, records)).encode(), mtime=0)


def test_neuronpedias_descriptions_come_in_by_upload_as_plain_text(cache):
    run = ready_runs.make_run()
    test = opened("features", run=run)
    record = {"modelId": "tiny", "layer": "22-res-tiny", "index": 7, "description": fabricated.HOSTILE}
    other = {**record, "layer": "9-res-tiny"}
    test.file_uploader(key=f"neuronpedia-{run}").upload("../e.jsonl.gz", explained(record, other)).run()
    press(test, "Import")
    assert not test.exception
    assert "Described now by this file: 1 feature. Left out: 1 record of" in words(test)
    assert table(test).set_index("feature").loc[7, "described"].startswith("<script>")  # the table stands above
    assert feature_facts.descriptions(run, 22, 7)["description"][0].startswith("<script>")
    assert "<script>" not in "".join(one.proto.body for one in test.get("html"))
    assert list((cache / "uploads").iterdir()) == []  # what it said is in the run


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", explained({"layer": "8-x", "index": "x"})])
def test_a_file_that_holds_no_descriptions_is_refused_in_words(content):
    run = ready_runs.make_run()
    test = opened("features", run=run)
    test.file_uploader(key=f"neuronpedia-{run}").upload("e.json", content).run()
    press(test, "Import")
    assert not test.exception
    assert len(test.error) == 1
    assert feature_lists.described_features(run) == 0


def test_a_file_that_unpacks_to_more_than_it_may_is_refused(tmp_path):
    run = ready_runs.make_run()
    bomb = tmp_path / "e.gz"
    bomb.write_bytes(gzip.compress(b" " * 2_000_000, mtime=0))
    with pytest.raises(CorrSteerError, match="1,000,000 bytes"):
        descriptions.import_file(run, bomb, largest=1_000_000)


# --- runs beside one another ---------------------------------------------------------------------


def test_runs_are_compared_by_what_came_of_them():
    one, other = ready_runs.make_run(), ready_runs.make_run("sentiment-0fab1e01", measured=False, seed=3)
    raw = ready_runs.make_run("capitals-0fab1e02", task="capitals", fitted=False, measured=False, collected=0.5)
    table = run_comparison.compared([one, other, raw])
    facts, summary = run_facts.facts(one), run_facts.headline(one)
    rates = facts.splits
    success = (rates["success_rate"] * rates["collected"]).sum() / rates["collected"].sum()
    best = feature_lists.best_effects(one).iloc[0]
    assert table[one].tolist() == [
        "280 of 280",
        components.percent(success),
        f"{components.signed(feature_lists.best_by_layer(one)['r'].max())} (layer 22 · feature 7)",
        components.signed(run_facts.chance(one)["level"]),
        f"{components.points(best['effect'])} (layer 8 · feature 41)",
        f"V: {components.percent(summary['unsteered_rate'])} to {components.percent(summary['steered_rate'])}",
        components.p_value(summary["p"]),
        "works",
    ]
    assert table[raw]["Samples answered"] == "140 of 280"
    assert table[other]["Best effect alone"] == "–"
    assert table[raw]["Highest r"] == "–"
    assert table[raw][run_comparison.MEASURED] == "not measured"
    apart = run_comparison.settings_apart([one, other, raw])
    assert apart.loc["task"].tolist() == ["sentiment", "sentiment", "capitals"]
    assert run_comparison.settings_apart([one, other]).empty


def test_a_comparison_is_drawn_as_tables():
    def script():
        from app.overview import run_comparison
        from corrsteer_core.storage import run_folder

        run_comparison.draw(run_folder.run_names())

    ready_runs.make_run()
    ready_runs.make_run("capitals-0fab1e02", task="capitals")
    test = AppTest.from_function(script, default_timeout=600).run()
    assert not test.exception
    assert {"The result of each run", "Settings in which they differ"} <= {one.proto.alt for one in test.dataframe}


def test_what_the_set_did_on_shifted_samples_stands_under_its_verdict():
    run = ready_runs.make_run()
    assert "made otherwise" not in words(opened())
    measured = reading.query(run, "SELECT * FROM evaluations WHERE name = 'V'").drop(columns="run")
    with writing.Writer(run) as store:
        store.add("evaluations", measured.assign(split="shifted"))
    summary = run_facts.headline(run)
    rates = " to ".join(components.percent(summary[side]) for side in ("unsteered_rate", "steered_rate"))
    assert f"On {summary['n']} samples made otherwise than these: {rates} (works)." in words(opened())
