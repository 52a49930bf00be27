"""`--columns` from the command line to the run that is kept, reopened and measured."""

from __future__ import annotations

import json

import pytest

from corrsteer_core.cli import main
from corrsteer_core.evaluation.exam import exam_for
from corrsteer_core.method import run_setup
from corrsteer_core.runs import run_facts, stored_run
from corrsteer_core.storage.pace import pace
from corrsteer_core.storage.reading import query
from corrsteer_core.tasks import custom_task
from tests.made.models import random_sae, tiny
from tests.made.sets import empty_set

ROWS = [
    {"question": f"{n} is", "right, = answer": "abcdefgh"[n % 8], "prompt": "not this",
     "split": ("train", "train", "validation", "test")[n % 4]}
    for n in range(40)
]  # fmt: skip
COLUMNS = (("prompt", "question"), ("target", "right, = answer"))


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    made = tiny("llama")
    made.net.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    random_sae(made, 1).net.save_model(tmp_path / "saes")
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def fit(files, *more: str) -> list[str]:
    return [
        "fit", "--data", str(files / "items.jsonl"), "--scorer", "contains", "--model", str(files / "model"), "--sae",
        str(files / "saes"), "--max-new-tokens", "2", "--floor", "1", "--no-chat", *more, "--json", "--quiet",
    ]  # fmt: skip


def test_columns_are_kept_with_the_run_and_read_again(files, capsys):
    assert main.main(fit(files, "--columns", json.dumps(dict(COLUMNS)))) == 0
    run = json.loads(capsys.readouterr().out)["run"]
    config, items = stored_run.stored(run)
    assert config.columns == COLUMNS
    assert sorted(item.prompt for item in items) == sorted(row["question"] for row in ROWS)
    assert run_setup.reopen(run).config == config

    assert main.main([*run_facts.fit_arguments(run), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == run

    (known,) = query(run, "SELECT timed, seconds FROM runs").itertuples()
    assert known.timed == len(ROWS)
    assert known.seconds > 0
    assert pace(run).rate == pytest.approx(len(ROWS) / known.seconds)

    setup = run_setup.reopen(run)
    steering = empty_set(setup.model, setup.saes, run=run, task=config.task, style=config.style)
    own = exam_for(steering, setup.task, setup.model, split="test")
    assert sorted(item.prompt for item in own.items) == sorted(row["question"] for row in ROWS[3::4])
    assert own.remarks == ()
    # Asked for with its scorer alone, the file is read as it was for the run.
    asked = custom_task("contains", files / "items.jsonl")
    assert exam_for(steering, asked, setup.model, split="test").items == own.items
    other = custom_task("contains", files / "items.jsonl", columns=(("prompt", "question"), ("target", "question")))
    assert exam_for(steering, other, setup.model, split="test").remarks == ("columns prompt=question,target=question",)


def test_the_run_has_the_name_of_one_whose_file_has_our_names(files, capsys):
    assert main.main(fit(files, "--columns", json.dumps(dict(COLUMNS)))) == 0
    named = json.loads(capsys.readouterr().out)["run"]
    rows = [{"prompt": row["question"], "target": row["right, = answer"], "split": row["split"]} for row in ROWS]
    (files / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main.main(fit(files)) == 0
    assert json.loads(capsys.readouterr().out)["run"] == named


def test_columns_without_a_file_and_columns_that_are_none_are_refused(files, capsys):
    assert main.main(["fit", "--task=tone", "--columns=prompt=x"]) == 1
    assert "name the file with --data" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main.main(fit(files, "--columns", "promt=x"))
    assert "did you mean 'prompt'" in capsys.readouterr().err
    assert main.main(fit(files, "--columns", "prompt=qestion")) == 1
    assert "has no column 'qestion' for the prompt" in capsys.readouterr().err
