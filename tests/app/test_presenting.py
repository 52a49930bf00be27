"""The app read-only: every page is there to look at, nothing that writes is, and what writes refuses when called."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from app import __main__ as start
from app.features import drawing
from app.shared import components, models
from app.steer import desk, snapshot
from app.steer.playing import Question
from corrsteer_core.base import jobs, presenting, uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli.commands import starting
from corrsteer_core.engine import export_formats
from corrsteer_core.inspection import descriptions
from corrsteer_core.reporting import report
from corrsteer_core.runs import measurements, stored_run
from corrsteer_core.storage import deleting, run_folder, upload_room
from corrsteer_core.storage.writing import Writer
from tests.app import ready_runs

MAIN = str(Path(__file__).parents[2] / "app" / "main.py")
PAGES = ("overview", "features", "steer", "evaluate", "blind", "report")
WRITES = {
    "Start a run", "Start", "Cancel", "Dismiss", "Go on", "Try again", "Go on with it", "Try them", "Delete", "Delete …", "Import",
    "Describe them", "Predict them", "Measure", "Save with the run", "Replace it",
}  # fmt: skip
"""Labels of what changes something that is kept."""
OLD = "20260101-000000-abcdef"  # a job
FOLDER = "/home/somebody/my models/tuned"


class NoBench:
    """A bench without a model."""

    def __init__(self, name: str, dtype: str) -> None:
        self.name, self.problem, self.ready = name, f"The folder {FOLDER} is damaged; give another.", True


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    models._bench.clear()
    monkeypatch.setattr(models, "Bench", NoBench)
    monkeypatch.setattr(drawing, "Work", lambda bench, do: SimpleNamespace(
        ready=True, left=False, result=None, problem=bench.problem, keep_alive=lambda: None))  # fmt: skip
    return tmp_path


@pytest.fixture
def presented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(presenting.VARIABLE, "yes")


def made_run(**settings: object) -> str:
    """A made-up run whose items can be read, as the Steer page does."""
    run = ready_runs.make_run(**settings)
    with Writer(run) as store:
        store.query(
            "UPDATE samples SET item = json_object('id', sample, 'split', split, 'prompt', prompt, 'target', target, "
            "'choices', json_array())"
        )
    return run


def in_a_folder(run: str) -> str:
    """The run, as if its model and SAEs lay in a folder of this machine."""
    with Writer(run) as store:
        config = json.loads(store.query("SELECT config FROM runs")["config"][0])
        saes = [{**sae, "source": f"{FOLDER}/saes/layer_{sae['layer']}"} for sae in config["saes"]]
        changed = {"model": FOLDER, "saes": saes}
        store.query("UPDATE runs SET config = json_merge_patch(config, $new)", {"new": json.dumps(changed)})
        store.query("UPDATE sets SET body = json_merge_patch(body, $new)", {"new": json.dumps(changed)})
    return run


def opened(page: str, **link: object) -> AppTest:
    test = AppTest.from_file(MAIN, default_timeout=600)
    test.session_state["pane"] = "Table"  # of the features: where descriptions come from is below it
    test.session_state["measure-False"] = True  # the form of the Evaluate page, unfolded
    test.run()
    if page != "overview":
        test._page_hash = test.session_state["pages"][page]._script_hash
    for name, value in link.items():
        test.query_params[name] = str(value)
    test.run()
    assert not test.exception
    return test


def every_word(test: AppTest) -> str:
    """All that the browser is sent, but for what stands behind downloads."""
    return "\n".join(str(one.proto) for one in [*test.main, *test.sidebar]) + "\n".join(
        str(one.proto) for kind in ("markdown", "caption", "error", "html", "code", "button", "arrow_data_frame")
        for one in test.get(kind)
    )  # fmt: skip


def offers(test: AppTest) -> set[str]:
    """Labels of all buttons, and the kind of what takes files."""
    kinds = ("button", "form_submit_button", "download_button")
    labels = {str(one.proto.label) for kind in kinds for one in test.get(kind)}
    return labels | {"a file is taken" for _ in test.get("file_uploader")}


def jobs_of_before(run: str) -> None:
    """One that failed, and a measurement that ended well, which the Evaluate page of an own app puts away."""
    measured = ["evaluate", "--set", str(run_folder.measured_sets(run) / "v-00000000.json")]
    for id, arguments, status in ((OLD, ["fit"], 1), ("20260101-000001-abcdef", measured, 0)):
        folder = jobs._jobs_dir() / id
        folder.mkdir(parents=True)
        about = {"id": id, "title": "A job of before", "arguments": arguments, "started": "2026-01-01T00:00:00+00:00"}
        (folder / "job.json").write_text(json.dumps(about))
        (folder / "exit").write_text(json.dumps({"status": status}))
        (folder / "log").write_text(f"error: {FOLDER} is not there.")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("measured", [True, False])
def test_no_page_offers_anything_that_writes(page, measured, presented):
    run = in_a_folder(made_run(measured=measured))
    jobs_of_before(run)
    test = opened(page)
    assert not offers(test) & {*WRITES, "a file is taken"}
    assert "start" not in test.session_state["pages"]
    assert "went wrong" not in every_word(test)
    assert "A job of before" not in every_word(test)
    assert FOLDER not in every_word(test)
    assert "Read-only" in test.sidebar.caption[0].value
    assert len(jobs.jobs()) == 2  # nor has drawing it put one away


def test_the_same_pages_offer_it_where_the_app_is_ones_own():
    jobs_of_before(made_run())
    found = {one for page in (*PAGES, "start") for one in offers(opened(page))}
    assert {
        "Start a run",
        "Start",
        "Dismiss",
        "Describe them",
        "Measure",
        "Save with the run",
        "a file is taken",
    } <= found


def test_a_feature_says_why_its_model_is_not_there_without_a_path(presented):
    in_a_folder(ready_runs.make_run())
    test = opened("features", layer=22, feature=7)
    assert any("tuned is damaged" in one.value for one in test.error)
    assert "/home" not in every_word(test)
    assert not offers(test) & WRITES - {"Try again"}  # which loads the model once more, and writes nothing


def test_an_unfinished_run_can_be_looked_at_and_not_gone_on_with(presented):
    ready_runs.make_run(fitted=False, measured=False, collected=0.5)
    test = opened("overview")
    assert any("not finished" in one.value for one in test.info)
    assert not offers(test) & WRITES


@pytest.mark.parametrize("page", PAGES)
def test_without_a_run_there_is_one_sentence(page, presented):
    test = opened(page)
    assert any("no run to look at yet" in one.value for one in test.markdown)
    assert not offers(test)


def test_a_damaged_run_cannot_be_deleted(presented):
    run = ready_runs.make_run(measured=False)
    run_folder.database_path(run).write_bytes(b"not a database")
    ready_runs.make_run("sentiment-0fab1e01")
    test = opened("overview")
    assert any(run in one.value.replace("\\", "") for one in test.error)
    assert not offers(test) & WRITES


def refusals(run: str, tmp: Path):
    steering = stored_run.kept_sets(run)["V"]
    yield lambda: jobs.start(["fit", "--task=sentiment"], "a run"), "No job is started"
    yield lambda: jobs.resume(OLD), "No job is started"
    yield lambda: jobs.cancel(OLD), "No job is stopped"
    yield lambda: jobs.forget(OLD), "No job is put away"
    yield lambda: uploads.keep_upload("x.jsonl", b"{}"), "No file is taken"
    yield lambda: uploads.passing("x.jsonl", b"{}").__enter__(), "No file is taken"
    yield lambda: uploads.remove(tmp / "uploads" / "a" / "x.jsonl"), "No file is removed"
    yield lambda: upload_room.make_room(10), "No file is taken"
    yield lambda: deleting.delete_run(run), "The run is not deleted"
    yield lambda: stored_run.keep_set(run, replace(steering, name="mine")), "The set is not saved"
    yield lambda: descriptions.keep(run, stored_run.features_of(run)), "No description is kept"


def test_what_writes_refuses_with_one_sentence_and_does_nothing(presented, cache):
    run = ready_runs.make_run()
    jobs_of_before(run)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    for call, words in refusals(run, cache):
        with pytest.raises(CorrSteerError, match=f"^{words}: this app is open for looking and steering only"):
            call()
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


def test_an_app_of_ones_own_refuses_none_of_it(cache):
    run = ready_runs.make_run()
    stored_run.keep_set(run, replace(stored_run.kept_sets(run)["V"], name="mine"))
    assert "mine" in set(measurements.sets(run)["name"])
    uploads.remove(uploads.keep_upload("x.jsonl", b"{}"))
    deleting.delete_run(run)
    assert not run_folder.run_names()


@pytest.mark.parametrize(
    ("sentence", "as_shown"),
    [
        ("The folder /srv/data/x cannot be read; give another.", "The folder x cannot be read; give another."),
        ("It is in ~/models/x.json, or in C:\\Users\\ada\\y.", "It is in x.json, or in y."),
        ("./here and ../there/it's", "here and it's"),
        ("and/or, 3/4, google/gemma-2-2b, https://x.org/a/b </div> 1 / 2",) * 2,
        ("Quoted \u201c/a/b\u201d and '/c/d'.", "Quoted \u201cb\u201d and 'd'."),
    ],
)
def test_a_sentence_keeps_of_a_path_its_last_name(sentence, as_shown, presented):
    assert presenting.said(sentence) == as_shown
    assert components.in_words_of_the_page(sentence) == as_shown


def test_the_cache_may_lie_under_a_name_with_spaces(presented, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", "/media/my disk/the cache")
    assert presenting.said("No room in /media/my disk/the cache/jobs/1/log.") == "No room in log."


def test_in_an_app_of_ones_own_paths_stay():
    for text in ("The folder /srv/data/x cannot be read.", FOLDER):
        assert presenting.said(text) == presenting.named(text) == text


def test_names_of_a_hub_stay_and_folders_go(presented, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "tuned").mkdir(parents=True)
    names = ("google/gemma-2-2b", "gpt2", "embedded/layer_8", FOLDER, "mine/tuned", str(tmp_path / "mine"))
    assert [presenting.named(name) for name in names] == [*names[:3], "tuned", "tuned", "mine"]


def test_what_is_handed_out_names_no_folder_and_comes_back(presented):
    run = in_a_folder(made_run())
    steering = stored_run.kept_sets(run)["V"]
    config, _ = stored_run.stored(run)
    given = desk.handed_out(steering)
    assert (given.model, {sae.source for sae in given.saes}) == ("tuned", {f"layer_{sae.layer}" for sae in config.saes})
    assert given.content == steering.content
    page = snapshot.Snapshot(given, Question(steering, "a prompt", run))
    assert "/home" not in page.to_json()
    link = page.to_link()
    assert link
    back = snapshot.from_link(link, run, config).steering
    assert (back.model, back.saes, back.rows) == (FOLDER, config.saes, steering.rows)
    assert "/home" not in report.html(run)
    assert "tuned, weights" in report.html(run)


def test_the_script_names_the_model_alone(presented, monkeypatch):
    steering = replace(stored_run.kept_sets(ready_runs.make_run())["V"], model=FOLDER)
    net = SimpleNamespace(dtype="float32", end_tokens={0})
    monkeypatch.setattr("corrsteer_core.models.prompts.text_before", lambda model, style: ([], ""))
    assert "'tuned'" in export_formats._script(steering, net, "x.safetensors")
    assert "/home" not in export_formats._script(steering, net, "x.safetensors")


def test_a_bug_is_told_without_the_place_of_the_log(presented):
    def script() -> None:
        from app.shared import components

        components.page_of(lambda: 1 / 0)()

    (said,) = AppTest.from_function(script).run().error
    assert "app\\.log" in said.value
    assert "/" not in said.value


# --- how it is started ---------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [True, False])
def test_the_server_is_told_by_its_environment_and_the_first_run_is_not_begun(asked, monkeypatch):
    seen: list[object] = []
    monkeypatch.delenv(presenting.VARIABLE, raising=False)
    monkeypatch.setattr(start, "start_demo", lambda: seen.append("demo"))
    monkeypatch.setattr(start, "_listen", lambda: None)
    monkeypatch.setattr(start.signal, "signal", lambda *_: None)
    monkeypatch.setattr(start, "_serve", lambda *_: seen.append(presenting.on()))
    monkeypatch.setattr(start, "_until_it_ends", lambda *_, **__: 0)
    monkeypatch.setattr(start, "_end", lambda server: None)
    monkeypatch.setattr(start.sys, "argv", ["app", "--no-browser", *(["--present"] if asked else [])])
    with monkeypatch.context() as patch:
        patch.setenv(presenting.VARIABLE, "")  # put back afterwards
        assert start.main() == 0
    assert seen == ([True] if asked else ["demo", False])


def test_the_command_hands_it_on():
    assert "--present" in starting.FLAGS
