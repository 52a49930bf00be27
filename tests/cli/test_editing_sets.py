"""`edit` and `--row`: what is done with a feature, in words on the command line."""

import json

import pytest

from corrsteer_core.cli import main
from corrsteer_core.cli.values import row
from corrsteer_core.inspection import playground
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.steering_set import Firing, SteeringRow, load_set, save_set
from tests.made import runs as tiny

CLAMP = "1/3 clamp 9 from 1 while 1/7 > 0.25"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A set in a file, with its model and SAEs in folders."""
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CORRSTEER_DTYPE", "float32")
    model, saes = tiny.load()
    steering = tiny.steering_set(model, saes, (1, 3, 4.0), (2, 5, 6.0), name="mine", style=PromptStyle(chat=False))
    save_set(steering, tmp_path / "set.json")
    return tmp_path / "set.json", steering


def printed(capsys, *arguments):
    capsys.readouterr()
    assert main.main([*map(str, arguments), "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def said(capsys, *arguments):
    capsys.readouterr()
    assert main.main([*map(str, arguments), "--quiet"]) == main.FAILED
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("12/7 add -3", SteeringRow(12, 7, -3.0)),
        ("12/7 clamp 4", SteeringRow(12, 7, 4.0, operation="clamp")),
        (" 12/7  cap  1.5e-1 ", SteeringRow(12, 7, 0.15, operation="cap")),
        ("12/7 ablate", SteeringRow(12, 7, 0.0, operation="ablate")),
        ("12/7 add 3 from 2", SteeringRow(12, 7, 3.0, from_token=2)),
        ("12/7 ablate while 8/99", SteeringRow(12, 7, 0.0, operation="ablate", while_fires=Firing(8, 99))),
        (CLAMP, SteeringRow(1, 3, 9.0, operation="clamp", from_token=1, while_fires=Firing(1, 7, 0.25))),
        ("1/3 cap 2 while 1/7>0.25", SteeringRow(1, 3, 2.0, operation="cap", while_fires=Firing(1, 7, 0.25))),
    ],
)
def test_a_row_in_words(words, expected):
    assert row(words) == expected


@pytest.mark.parametrize(
    "words",
    [
        "", "12", "12/7", "12/7 clamp", "12/7 ablate 3", "12/7 boost 3", "12/7 add x", "12/7 add nan", "12/7 add 1e999",
        "12/7 add 1-", "12/7 add 3 from", "12/7 add 3 from -1", "12/7 add 3 from 1.5", "12/7 add 3 while", "12/7 add 3 while 8",
        "12/7 add 3 while 8/9 > nan", "12/7 add 3 while 8/9 < 1", "-1/7 add 3", "12/7 add 3 while 8/9 from 2", "1" * 5_000,
        "12/7 add " + "1" * 5_000, "12/7 add 3\udcff", "१/7 add 3 x",
    ],
)  # fmt: skip
def test_words_that_are_no_row_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        main.main(["edit", "--set", "x", "--out", "y.json", "--row", words])
    error = capsys.readouterr().err
    assert "is not a row like '12/7 clamp 4 from 2 while 8/99 > 0.5'" in error
    assert "add, clamp, ablate, cap" in error


def test_an_edited_set_has_the_rows_asked_for_and_the_others(made, tmp_path, capsys):
    file, steering = made
    rows = printed(capsys, "edit", "--set", file, "--row", CLAMP, "--row", "2/8 ablate", "--out", tmp_path / "new.json")
    expected = (row(CLAMP), steering.rows[1], row("2/8 ablate"))
    found = load_set(tmp_path / "new.json")
    assert (found.rows, found.name) == (expected, "mine (edited)")
    assert rows == [{"layer": one.layer, "feature": one.feature, "does": one.does} for one in expected]
    named = tmp_path / "named.json"
    printed(capsys, "edit", "--set", tmp_path / "new.json", "--row", "1/3 add 4", "--name", "held", "--out", named)
    assert load_set(named).name == "held"
    assert load_set(named).rows[0] == SteeringRow(1, 3, 4.0)


def test_an_edit_loses_no_file_and_takes_no_row_that_a_set_cannot_have(made, tmp_path, capsys):
    file, _ = made
    new = tmp_path / "new.json"
    edit = ("edit", "--set", file, "--out", new)
    assert "There is no feature 999 of layer 1" in said(capsys, *edit, "--row", "1/999 ablate")
    assert "of layer 2, which comes later" in said(capsys, *edit, "--row", "1/3 ablate while 2/5")
    assert "give a number from 0 to 1,000,000" in said(capsys, *edit, "--row", "1/3 add 1 from 99999999")
    assert "give a number of 0 or more" in said(capsys, *edit, "--row", "1/3 add 1 while 1/5 > -1")
    assert not new.exists()
    printed(capsys, *edit, "--row", "1/3 ablate")
    assert "is there already" in said(capsys, *edit, "--row", "1/3 add 1")
    assert load_set(new).rows[0].operation == "ablate"
    printed(capsys, *edit, "--row", "1/3 add 1", "--force")
    assert load_set(new).rows[0] == SteeringRow(1, 3, 1.0)
    wrong = said(capsys, "edit", "--set", file, "--out", tmp_path / "x.txt", "--row", "1/3 add 1")
    assert "ends in .json" in wrong


def test_a_row_can_be_tried_before_it_is_written(made, tmp_path, capsys):
    file, steering = made
    printed(capsys, "edit", "--set", file, "--row", CLAMP, "--out", tmp_path / "new.json")
    asked = ("generate", "--prompt", "Tell me of the sea.", "--max-new-tokens", 12)
    found = printed(capsys, *asked, "--set", file, "--row", CLAMP)
    assert found == printed(capsys, *asked, "--set", tmp_path / "new.json")
    model, saes = tiny.load()
    texts = playground.side_by_side(
        steering.with_row(row(CLAMP)), "Tell me of the sea.", max_new_tokens=12, model=model, saes=saes
    )
    assert found == dict(zip(("unsteered", "steered"), texts, strict=True))
    assert texts[0] != texts[1]
    plain = printed(capsys, *asked, "--set", file)
    assert plain["steered"] != found["steered"]
    nothing = printed(capsys, *asked, "--set", tmp_path / "new.json", "--scale", 0)
    assert nothing["steered"] == nothing["unsteered"]


@pytest.mark.parametrize("wanted", ["safetensors", "gguf"])
def test_an_export_that_cannot_say_it_is_refused_before_a_model_is_loaded(made, tmp_path, capsys, monkeypatch, wanted):
    from corrsteer_core.models import loading

    file, _ = made
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    printed(capsys, "edit", "--set", file, "--row", CLAMP, "--out", tmp_path / "new.json")
    export = ("export", "--set", tmp_path / "new.json", "--format", wanted)
    error = said(capsys, *export, "--out", tmp_path / "x.any")
    assert f"An export as {wanted} can only add the same vector at every generated token" in error
    assert "the row for feature 3 of layer 1 does not (clamp to 9, from generated token 1 on, while" in error
    assert list(tmp_path.glob("x*")) == []
    printed(capsys, "export", "--set", tmp_path / "new.json", "--format", "json", "--out", tmp_path / "copy.json")
    assert load_set(tmp_path / "copy.json") == load_set(tmp_path / "new.json")
