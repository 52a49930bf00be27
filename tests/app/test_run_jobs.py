"""A job belongs to a run where it asks for the same: settings, prompt and SAEs, each of which tells runs apart."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.shared.run_jobs import makes
from app.start.settings import Pairing, Settings
from corrsteer_core.base import jobs
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.runs import run_facts
from corrsteer_core.saes.presets import PRESETS
from corrsteer_core.storage.writing import Writer
from tests.made import fabricated

EMBEDDED_SAES = ("embedded/layer_8", "embedded/layer_15", "embedded/layer_22")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))


def job(*arguments: str) -> jobs.Job:
    begun = datetime(2026, 11, 28, tzinfo=UTC)
    return jobs.Job("id", "Mine", arguments, "running", "collecting", 0.4, None, "", begun)


def facts(*, saes: tuple[str, ...] = EMBEDDED_SAES, chat: bool = False, system: str = "", **other: object):
    """Of a run of the embedded model, or another, with SAEs of layers 8, 15 and 22."""
    run = fabricated.make_run()
    with Writer(run) as store:
        rows = store.query("SELECT * FROM runs").drop(columns="run")
        config = json.loads(rows["config"][0]) | {"model": EMBEDDED, **other}
        config["style"] = {"chat": chat, "system": system, "shots": []}
        config["saes"] = [{**sae, "source": source} for sae, source in zip(config["saes"], saes, strict=True)]
        store.replace("runs", rows.assign(config=json.dumps(config)))
    return run_facts.facts(run)


def asked(sae: str = "", **settings: object) -> jobs.Job:
    """A job as the form for a new run asks for it."""
    pairing = Pairing(None, EMBEDDED, sae)
    return job("fit", "--task=sentiment", *pairing.arguments(), *Settings(**settings).arguments())  # type: ignore[arg-type]


def test_what_goes_on_with_a_run_makes_it():
    found = facts(chat=True, system="Be brief.")
    assert makes(job(*run_facts.fit_arguments(found.run)), found)
    assert makes(asked(chat=True, system="Be brief."), found)
    assert not makes(job("select", *run_facts.fit_arguments(found.run)[1:]), found)


@pytest.mark.parametrize(("run", "other"), [("", "Be brief."), ("Be brief.", ""), ("Be brief.", "Be wordy.")])
def test_another_system_prompt_is_another_run(run, other):
    found = facts(system=run)
    assert makes(asked(system=run), found)
    assert not makes(asked(system=other), found)


@pytest.mark.parametrize("chat", [True, False])
def test_the_chat_template_asked_for_is_the_runs_or_the_tasks_own(chat):
    found = facts(chat=chat)
    assert makes(asked(chat=chat), found)
    assert makes(asked(chat=None), found)
    assert not makes(asked(chat=not chat), found)


def test_saes_of_another_place_are_another_run():
    folders = ("saes/wide/layer_8", "saes/wide/layer_15", "saes/wide/layer_22")
    found = facts(saes=folders)
    assert makes(asked("saes/wide"), found), "a folder of them"
    assert makes(asked("./saes/wide/"), found)
    assert makes(asked(",".join(folders)), found)
    assert not makes(asked("saes/wid"), found)
    assert not makes(asked("saes/narrow"), found)
    assert not makes(asked(), found), "those that come with the model"
    assert not makes(asked(",".join(folders[:2])), found), "of fewer layers"
    assert not makes(asked(",".join((*folders, "saes/layer_3"))), found), "of one more"


def test_without_saes_named_they_are_those_that_come_with_the_model():
    assert makes(job("fit", "--task=sentiment", f"--model={EMBEDDED}", "--pooling=max"), facts())


def test_layers_pick_some_of_the_saes_named():
    assert makes(asked(layers="8,15,22"), facts())
    assert makes(asked("embedded,saes/more", layers="22,15,8"), facts())
    assert not makes(asked(layers="8,15"), facts())


def test_a_preset_names_its_saes():
    preset = PRESETS["gemma-2-2b"]
    preset_saes = tuple(preset.sources([8, 15, 22]))
    found = facts(model=preset.model, saes=preset_saes)
    arguments = ("fit", "--task=sentiment", "--preset=gemma-2-2b", "--pooling=max")
    assert makes(job(*arguments, "--layers=8,15,22"), found)
    assert not makes(job(*arguments, "--layers=eight"), found), "a job that fails of it is looked at all the same"
    assert not makes(job(*arguments), found), "it has 26"
    wider = tuple(source.replace("width_16k", "width_65k") for source in preset_saes)
    assert not makes(job(*arguments, "--layers=8,15,22"), facts(model=preset.model, saes=wider))
