"""The Start page: what is chosen, shown, checked and started, and what is said of a run that fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.shared import components, job_panel, models
from app.start import model_words, prompts_panel, settings
from app.start.settings import Settings
from corrsteer_core.base import jobs, presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.prompts import prompt_text, resolve_style
from corrsteer_core.models.words import words_of
from corrsteer_core.runs import run_facts
from corrsteer_core.storage.writing import Writer
from corrsteer_core.tasks import get_task, load_items
from corrsteer_core.tasks.columns import read
from tests.app import ready_runs
from tests.made import runs as tiny
from tests.made.fabricated import HOSTILE

MAIN = str(Path(__file__).parents[2] / "app" / "main.py")
EVEN = "question,answer,kind\n" + "".join(f"Is {n} even?,{'no' if n % 2 else 'yes'},small\n" for n in range(40))
ID = "20260101-000000-abcdef"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    models._bench.clear()
    return tmp_path


@pytest.fixture(autouse=True)
def no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tokenizer is read unless a test brings one."""
    monkeypatch.setattr(model_words, "reading", Read)


class Read:
    """A reading that has ended."""

    def __init__(self, name: str, words: object = None) -> None:
        self.name, self.words, self.ready = name, words, True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of the jobs that the page starts; none is run."""
    found: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda arguments, title: found.append(list(arguments)) or ID)
    return found


def opened() -> AppTest:
    test = AppTest.from_file(MAIN, default_timeout=600)
    test.run()
    test._page_hash = test.session_state["pages"]["start"]._script_hash
    test.run()
    assert not test.exception
    return test


def with_file(name: str = "mine.csv", content: str | bytes = EVEN) -> AppTest:
    test = opened()
    test.button_group(key="new_run_kind").set_value("My own file").run()
    raw = content.encode() if isinstance(content, str) else content
    test.file_uploader(key="new_run_file").upload(name, raw, "application/octet-stream").run()
    assert not test.exception
    return test


def words(test: AppTest) -> str:
    kinds = ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error")
    return "\n".join(str(one.value) for kind in kinds for one in test.get(kind)).replace("\\", "")


def box(test: AppTest, label: str):
    return next(one for one in test.selectbox if one.label == label)


def press(test: AppTest, label: str) -> AppTest:
    next(one for one in test.button if one.label == label).click()
    return test.run()


def texts(test: AppTest) -> list[str]:
    return [one.value for one in test.code]


def option(arguments: list[str], name: str) -> str | None:
    return next((one.partition("=")[2] for one in arguments if one.startswith(f"{name}=")), None)


# --- where it is ---------------------------------------------------------------------------------


def test_one_button_of_the_overview_leads_to_it():
    test = AppTest.from_file(MAIN, default_timeout=600).run()
    main = [one for one in test.button if one.proto.type == "primary"]
    assert [one.label for one in main] == ["Start a run"]
    assert "Start a run" in words(press(test, "Start a run"))


def test_it_is_not_there_where_the_app_is_read_only(monkeypatch):
    ready_runs.make_run()
    monkeypatch.setenv(presenting.VARIABLE, "yes")
    test = AppTest.from_file(MAIN, default_timeout=600).run()
    assert "start" not in test.session_state["pages"]
    assert "Start a run" not in [one.label for one in test.button]


# --- a task by name ------------------------------------------------------------------------------


def test_what_was_filled_in_is_started(started):
    test = opened()
    test.selectbox(key="new_run_task").select("capitals")
    test.text_input(key="new_run_layers").input("8, 15")
    test.number_input(key="new_run_limit").set_value(100)
    press(test, "Start")
    assert started == [
        ["fit", "--task=capitals", "--model=SmolLM2-135M-Instruct", "--sae=embedded", "--layers=8,15", "--limit=100", "--pooling=max",
         "--describe=60"]
    ]  # fmt: skip


def test_a_preset_takes_the_place_of_model_and_saes(started):
    test = opened()
    test.selectbox(key="new_run_preset").select("gemma-3-270m-it").run()
    assert "google/gemma-3-270m-it" in words(test)
    assert not [field for field in test.text_input if field.key in ("new_run_model", "new_run_sae")]
    test.selectbox(key="new_run_task").select("capitals")
    test.text_input(key="new_run_layers").input("8")
    press(test, "Start")
    assert started == [
        ["fit", "--task=capitals", "--preset=gemma-3-270m-it", "--layers=8", "--pooling=max", "--describe=60"]
    ]


def test_how_prompts_are_put_is_part_of_what_is_started(started):
    test = opened()
    test.selectbox(key="new_run_chat").select("On")
    test.number_input(key="new_run_shots").set_value(3)
    test.text_input(key="new_run_system").input(" --quiet ")
    press(test, "Start")
    assert started[0][-4:] == ["--chat", "--shots=3", "--system=--quiet", "--describe=60"]


@pytest.mark.parametrize("there", [True, False])
def test_several_processes_can_be_asked_for_where_ray_is(monkeypatch, there):
    monkeypatch.setattr(settings, "find_spec", lambda name: object() if there else None)
    test = AppTest.from_function(_settings_alone).run()
    field = test.number_input(key="new_run_workers")
    assert field.disabled is not there
    assert ("pip install" in field.help) is not there
    if there:
        field.set_value(4).run()
        assert test.json[0].value.count("--workers=4") == 1


def _settings_alone():
    import streamlit as st

    from app.start.settings import settings

    st.json(settings().arguments())


def test_what_is_typed_cannot_pass_for_an_option(started):
    test = opened()
    test.text_input(key="new_run_model").input("--json")
    test.text_input(key="new_run_sae").input("--out=/etc/x, y")
    press(test, "Start")
    assert {"--model=--json", "--sae=--out=/etc/x", "--sae=y"} <= set(started[0])


@pytest.mark.parametrize("layers", ["8;9", "x", "8,,9", "-1", "99999", "--json"])
def test_layers_that_are_no_numbers_are_told_beside_the_button(layers, started):
    test = opened()
    test.text_input(key="new_run_layers").input(layers)
    press(test, "Start")
    assert "“Layers” is" in words(test)
    assert started == []


def test_how_many_samples_there_are_is_said_of_a_task_and_not_of_one_that_is_yet_to_come(monkeypatch):
    test = opened()
    test.selectbox(key="new_run_task").select("capitals").run()
    items = load_items(get_task("capitals"))
    train = sum(item.split == "train" for item in items)
    assert f"{len(items):,} samples**: {train:,} to rank features" in words(test)
    test.selectbox(key="new_run_task").select("mmlu").run()
    assert "downloaded from the Hugging Face hub" in words(test)
    assert texts(test) == []


def test_fields_keep_what_was_chosen_while_other_pages_are_visited():
    test = opened()
    test.selectbox(key="new_run_task").select("capitals")
    test.text_input(key="new_run_system").input("Be brief.").run()
    for page in ("features", "start"):
        test._page_hash = test.session_state["pages"][page]._script_hash
        test.run()
    assert test.selectbox(key="new_run_task").value == "capitals"
    assert test.text_input(key="new_run_system").value == "Be brief."


# --- a file --------------------------------------------------------------------------------------


def test_a_file_is_shown_understood_and_counted_as_soon_as_it_is_chosen(started):
    test = with_file()
    assert test.dataframe[0].value["question"].tolist() == [f"Is {n} even?" for n in range(5)]
    assert (box(test, "Prompt").value, box(test, "Right answer").value) == ("question", "answer")
    assert (box(test, "Split").value, box(test, "What counts as success").value) == ("", "first_word")
    assert "40 samples**: 20 to rank features, 8 to choose them, 12 held back to measure" in words(test)
    assert "Right answers: yes 20, no 20." in words(test)
    assert texts(test) == ["Is 0 even?", "Is 1 even?"]
    press(test, "Start")
    (arguments,) = started
    assert option(arguments, "--columns") == "prompt=question,target=answer"
    assert option(arguments, "--scorer") == "first_word"
    assert Path(option(arguments, "--data") or "").read_text() == EVEN


def test_nothing_of_a_file_is_kept_before_a_run_is_started(cache):
    with_file()
    assert not [path for path in (cache / "uploads").glob("**/*") if path.is_file()]


def test_columns_are_chosen_where_their_names_say_nothing(started):
    test = with_file(content=EVEN.replace("question,answer,kind", "a,b,split"))
    assert "which column holds the prompts" in words(test)
    assert texts(test) == []
    press(test, "Start")
    assert any("which column holds the prompts" in one.value for one in test.error)
    assert started == []
    box(test, "Prompt").select("a").run()
    assert "choose it beside the file" in words(test)
    box(test, "Right answer").select("b")
    box(test, "What counts as success").select("first_word").run()
    assert "'small' as 'split'" in words(test)
    box(test, "Split").select("").run()
    assert "40 samples" in words(test)
    press(test, "Start")
    assert option(started[0], "--columns") == "prompt=a,target=b,split="


def test_what_is_wrong_with_a_file_is_said_beside_it_with_the_line_and_how_many_more(started):
    test = with_file(content=EVEN.replace(",yes,", ",,", 5))
    (said,) = (one.value.replace("\\", "").split("\n\n") for one in test.error)
    assert [one.split(" of")[0] for one in said[:3]] == ["Line 2", "Line 4", "Line 6"]
    assert all("no 'target' (column 'answer')" in one for one in said[:3])
    assert said[3:] == ["And 2 more rows that cannot be used."]
    press(test, "Start")
    assert len(test.error) == 2  # once more, beside the button
    assert started == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"  ", "is empty"),
        ("x.csv", b"a,b\n1\n", "more or fewer values"),
        ("x.json", b"{", "is not valid JSON"),
        ("x.parquet", b"PAR1", "not a readable Parquet file"),
        ("x.csv", "prompt\n\xe9\n".encode("latin-1"), "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_sentence(name, content, said):
    test = with_file(name, content)
    assert len(test.error) == 1
    assert said in test.error[0].value.replace("\\", "")


def test_hostile_names_and_cells_are_text(started):
    rows = [{HOSTILE: f"{HOSTILE} {n}", "=1+1": HOSTILE, "\u202e": "x"} for n in range(30)]
    test = with_file("<b>.jsonl", "\n".join(map(json.dumps, rows)))
    box(test, "Prompt").select(HOSTILE)
    box(test, "Right answer").select("=1+1")
    box(test, "What counts as success").select("contains").run()
    assert not test.exception
    assert "30 samples" in words(test)
    assert not any(one.allow_html for one in test.markdown)
    assert components.plain(HOSTILE) in texts(test)[0]
    shown = test.dataframe[0].value
    assert not [head for head in shown.columns if head.startswith("=")]
    press(test, "Start")
    assert read(option(started[0], "--columns") or "") == (("prompt", HOSTILE), ("target", "=1+1"))


def test_a_file_of_very_many_columns_is_shown_in_part():
    heads = ",".join(f"c{n}" for n in range(5_000))
    test = with_file(content=f"{heads},prompt\n" + ",".join(["x"] * 5_001) + "\n")
    assert len(test.dataframe[0].value.columns) == 12
    assert "the first 12 of 5,001 columns" in words(test)
    assert len(box(test, "Choices").options) == 101  # "none" among them


def test_without_a_file_it_is_said_what_one_holds(started):
    test = opened()
    test.button_group(key="new_run_kind").set_value("My own file").run()
    assert "One sample a row" in words(test)
    press(test, "Start")
    assert "No file was chosen" in words(test)
    assert started == []


# --- how prompts will read -----------------------------------------------------------------------


def test_prompts_are_shown_in_the_words_of_the_model(monkeypatch):
    model, _ = tiny.load()
    spoken = words_of(model.name)
    monkeypatch.setattr(model_words, "reading", lambda name: Read(name, spoken))
    test = with_file()
    test.number_input(key="new_run_shots").set_value(2).run()
    assert "with its chat template and 2 examples before each" in words(test)
    (text, _) = texts(test)
    assert text.count("<|im_start|>user") == 3
    test.selectbox(key="new_run_chat").select("Off")
    test.number_input(key="new_run_shots").set_value(0).run()
    style = resolve_style(spoken, chat=False, task_chat=True)
    assert texts(test)[0] == prompt_text(spoken, "Is 0 even?", style) == "Is 0 even?"
    test.text_input(key="new_run_system").input("Be brief.").run()
    assert "“Chat template: On”" in words(test)  # a system prompt needs it
    assert texts(test) == []


def test_too_many_examples_are_told_where_the_prompts_would_be():
    test = with_file()
    test.number_input(key="new_run_shots").set_value(64).run()
    assert [one.value.startswith("64 examples were asked for") for one in test.error] == [True]


def test_a_long_prompt_is_shown_without_its_middle():
    text = "a" * 3_000 + "b" * 3_000
    cut = prompts_panel._cut(text)
    assert cut.startswith("a" * prompts_panel.BEGINNING + "\n… 4,000 characters more …")
    assert cut.endswith("b" * prompts_panel.END)
    assert prompts_panel._cut("short") == "short"


# --- how long it takes ---------------------------------------------------------------------------


def test_the_time_is_that_of_an_earlier_run_of_this_model_and_length():
    run = ready_runs.make_run()
    test = opened()
    assert "shows after the first batch" in words(test)
    with Writer(run) as store:
        store.query("UPDATE runs SET timed = 280, seconds = 140")
    test = opened()
    assert "About **8 min 20 s** for 1,000 answers: 2.0 answers a second, as measured in the run" in words(test)
    test.number_input(key="new_run_limit").set_value(100).run()
    assert "About **50 s** for 100 answers" in words(test)
    test.number_input(key="new_run_tokens").set_value(30).run()
    assert "answers of up to 30 tokens" in words(test)


# --- what became of it ---------------------------------------------------------------------------


def job(state: jobs.State, **other: object) -> jobs.Job:
    about = {"id": ID, "title": "Mine", "arguments": ("fit", "--task=tone"), "stage": "correlating", "share": 0.4}
    return jobs.Job(**{**about, "state": state, "seconds_left": 65.0, "error": "", "started": None, **other})  # type: ignore[arg-type]


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> list[jobs.Job]:
    """The job as it stands, to be changed by the test."""
    found = [job("running")]
    monkeypatch.setattr(jobs, "jobs", lambda: list(found))
    monkeypatch.setattr(jobs, "job", lambda id: found[0])
    return found


def test_how_far_it_is_stands_below_the_button_and_a_failure_is_told_once(started, standing):
    standing.clear()
    test = opened()
    standing.append(job("running"))
    press(test, "Start")
    assert test.get("progress")[0].proto.text == "40% · correlating · about 1 min 05 s left"
    standing[0] = job("failed", error="There is no layer <b>.", again=False)
    test.run()
    assert "There is no layer <b>." in words(test)
    assert ["There is no layer" in one.value.replace("\\", "") for one in test.toast] == [True]
    assert not {"Try again", "Go on"} & {one.label for one in test.button}
    test.run()
    assert not test.toast


@pytest.mark.parametrize(
    ("ended", "label"),
    [
        (job("failed", error="No room.", again=True), "Try again"),
        (job("failed", error="No such task.", again=False), None),
        (job("cancelled"), "Go on"),
    ],
)
def test_only_what_may_go_well_is_offered_again(ended, label, standing):
    standing[0] = ended
    test = AppTest.from_file(MAIN, default_timeout=600).run()
    assert [one.label for one in test.button if one.label in ("Try again", "Go on")] == ([label] if label else [])
    assert not test.toast  # it had failed before this tab came


def test_a_run_that_is_done_is_one_click_away(standing, monkeypatch):
    run = ready_runs.make_run()
    ready_runs.make_run("capitals-0fab1e01", task="capitals", seed=1)
    standing[0] = job("finished", arguments=tuple(run_facts.fit_arguments(run)))
    seen: list[str] = []
    monkeypatch.setattr(job_panel.state, "go_to", lambda page, run: seen.append(f"{page} {run}"))
    press(AppTest.from_file(MAIN, default_timeout=600).run(), "Look at it")
    assert seen == [f"overview {run}"]


def test_settings_that_are_not_filled_in_are_not_asked_for():
    assert Settings().arguments() == ["--pooling=max"]
    with pytest.raises(CorrSteerError, match="--layers"):
        Settings(layers="1-3").arguments()
