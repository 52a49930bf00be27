"""One entry makes a thing known: what a test puts into a table shows up in the command line, the app and the report."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

import app
from app.shared.pages import pages
from app.steer.editing import Editor
from app.steer.sets.exporting import offered
from app.steer.sets.set_files import kind_of
from corrsteer_core import tasks
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import choices, main
from corrsteer_core.correlation.feature_columns import COLUMNS, Column
from corrsteer_core.correlation.rankings import RANKINGS
from corrsteer_core.engine import exports
from corrsteer_core.engine.export_formats import FORMATS, ExportFormat
from corrsteer_core.method.candidates import rankable_features
from corrsteer_core.models.architectures import LAYOUTS
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.reporting import report, verdict
from corrsteer_core.runs import feature_lists, stored_run
from corrsteer_core.runs.fit import fit
from corrsteer_core.runs.poolings import POOLINGS, Pooling
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet
from corrsteer_core.runs.strategies import STRATEGIES, best_overall
from corrsteer_core.saes import sources
from corrsteer_core.storage.reading import query
from corrsteer_core.storage.writing import Writer
from corrsteer_core.tasks import named
from tests.made import fabricated
from tests.made.models import random_sae, tiny
from tests.made.places import ROOT
from tests.made.sets import empty_set


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    return tmp_path


def asked(*words: str) -> argparse.Namespace:
    """What the command line makes of words; a name that it does not know ends the test."""
    return main.parser().parse_args(words)


def form() -> AppTest:
    """The page with the form for a new run."""
    return opened("start")


def opened(page: str) -> AppTest:
    """A page of the app, drawn."""
    test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    test.session_state["pane"] = "Table"  # of the features
    test.run()
    test._page_hash = test.session_state["pages"][page]._script_hash
    test.run()
    assert not test.exception
    return test


def test_a_strategy(monkeypatch):
    made_up = replace(
        STRATEGIES["P"], name="W", what="a made-up choice", choose=lambda desk: best_overall(desk.features)
    )
    monkeypatch.setitem(STRATEGIES, "W", made_up)
    assert asked("select", "RUN", "--strategy", "W").strategy == "W"
    assert "W: a made-up choice" in choices.strategy_words()
    assert kind_of("W") == "a made-up choice"
    run = fabricated.make_run()
    with Writer(run) as store:
        store.query("UPDATE sets SET name = 'W', strategy = 'W' WHERE name = 'A'")
    assert "a made-up choice" in report.html(run)
    body = SteeringSet("m", "0", (), name="mine")
    with pytest.raises(CorrSteerError, match="automatic choice"):
        Editor.of(body).named("W")


def test_a_strategy_that_chooses_by_steering_is_compared_with_the_same_choice_among_random_features(monkeypatch):
    assert not verdict.chosen_by_steering("W")
    monkeypatch.setitem(STRATEGIES, "W", replace(STRATEGIES["P"], name="W"))
    assert verdict.chosen_by_steering("W")


def test_a_pooling(monkeypatch):
    monkeypatch.setitem(POOLINGS, "least", Pooling("least", "smallest over the positions"))
    assert asked("fit", "--pooling", "least").pooling == "least"
    assert "least, the smallest over the positions" in choices.pooling_words()
    field = form().selectbox(key="new_run_pooling")
    assert "least" in field.options
    assert "smallest over the positions" in field.help
    run = fabricated.make_run()
    with Writer(run) as store:
        store.query("""UPDATE runs SET config = json_merge_patch(config, '{"pooling": "least"}')""")
    assert "the smallest over the positions" in report.html(run)


def test_a_ranking(monkeypatch):
    monkeypatch.setitem(RANKINGS, "oldest", lambda Z, y: -pd.Series(range(Z.shape[1])).to_numpy(float))
    assert asked("select", "RUN", "--strategy", "S", "--ranking", "oldest").ranking == "oldest"
    assert "oldest" in choices.rankings()
    found = rankable_features(fabricated.make_run(), ranking="oldest")
    assert found["feature"].is_monotonic_increasing


def test_a_statistics_column(monkeypatch, capsys):
    """A run of before has nothing there until it is fitted again; then all that show features show it."""
    run = fabricated.make_run()
    made_up = Column("half_r", "r / 2", lambda layer: layer.stats.r / 2, title="Half of r", help="A made-up half.")
    place = Column("place", "of r", of_run=lambda run: run.columns["half_r"].rank(method="first"), kind="INTEGER")
    monkeypatch.setitem(COLUMNS, "half_r", made_up)
    monkeypatch.setitem(COLUMNS, "place", place)
    assert feature_lists.features(run)["half_r"].isna().all()
    assert stored_run.features_of(run)["place"].isna().all()
    with Writer(run) as store:
        fit(store)
    found = feature_lists.features(run, feature_lists.FeatureFilter(sort="place"), limit=3)
    assert found["half_r"].tolist() == (found["r"] / 2).tolist()
    assert found["half_r"].iloc[0] == feature_lists.best_by_layer(run)["r"].max() / 2
    kinds = query(run, "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'features'")
    assert kinds.to_numpy().tolist()[-2:] == [["half_r", "DOUBLE"], ["place", "INTEGER"]]
    assert main.main(["features", run, "--top", "1", "--json"]) == 0
    (top,) = json.loads(capsys.readouterr().out)
    assert top["half_r"] == top["r"] / 2
    assert top["place"] == stored_run.features_of(run)["r"].notna().sum()
    page = report.html(run)
    assert "Half of r</th>" in page
    assert f">{top['half_r']:.2f}</td>" in page
    assert "<dt>Half of r</dt><dd>A made-up half.</dd>" in page
    test = opened("features")
    assert test.selectbox(key="filter_sort").options.count("Half of r") == 1
    assert test.dataframe[0].value["half_r"].iloc[0] == top["half_r"]
    assert "- **Half of r**: A made-up half." in "".join(one.value for one in test.markdown)


@pytest.mark.parametrize(
    "fields", [{}, {"of_run": len, "of_layer": len}, {"of_run": len, "name": 'r"; DROP TABLE runs'}]
)
def test_a_column_that_cannot_be_is_refused(fields):
    with pytest.raises(ValueError, match="column"):
        Column(**{"name": "x", "what": "x", **fields})


def test_an_export_format(monkeypatch):
    made_up = ExportFormat("morse", ".morse", "Morse code", "For ships.", lambda made: {made.named(".morse"): b"..."})
    monkeypatch.setitem(FORMATS, "morse", replace(made_up, beside=(".flag",)))
    assert asked("export", "--set", "x", "--format", "morse", "--out", "y").format == "morse"
    assert "morse also writes a .flag beside it" in choices.files_beside()
    assert "Morse code" in [one.label for one in offered()]
    assert exports.files_of("morse", Path("x.morse")) == [Path("x.morse"), Path("x.flag")]


def test_an_architecture(monkeypatch):
    """Its blocks, its SAEs' module paths and what llama.cpp calls it; also a list of blocks that no other has."""
    model = tiny("llama")
    with pytest.raises(CorrSteerError, match="cannot place in a model"):
        HookPoint.parse("trunk.stages.2")
    made_up = replace(LAYOUTS["llama"], llama_cpp="made-up-in-llama-cpp")
    monkeypatch.setitem(LAYOUTS, "made_up", made_up)
    monkeypatch.setitem(LAYOUTS, "longer", replace(made_up, blocks="trunk.stages"))
    monkeypatch.setattr(model.net.config, "model_type", "made_up")
    assert model.n_layers == 3
    assert model.site(HookPoint(1)).module is model.net.model.layers[1]
    assert HookPoint.parse("trunk.stages.2") == HookPoint.parse("stages.2") == HookPoint(2)
    saes = [random_sae(model, 1)]
    steering = empty_set(model, saes, rows=(SteeringRow(1, 3, 9.0),))
    (content,) = exports.exported(steering, "gguf", "v", model, saes).values()
    assert b"made-up-in-llama-cpp" in content
    monkeypatch.setattr(model.net.config, "model_type", "unheard_of")
    assert model.layout.blocks == "model.layers", "one without an entry is looked for at the usual places"
    monkeypatch.setattr("corrsteer_core.models.architectures._BLOCKS", ("trunk.stages",))
    with pytest.raises(CorrSteerError, match="hook points are known for .*gemma2, .* longer, made_up"):
        _ = model.layout


def test_a_task_is_found_in_its_file(monkeypatch, tmp_path):
    (tmp_path / "made_up.py").write_text(
        "from dataclasses import replace\n"
        "from corrsteer_core.tasks.named import sentiment\n"
        "TASK = replace(sentiment.TASK, name='made_up', title='A made-up task')\n"
    )
    monkeypatch.setattr(named, "__path__", [*named.__path__, str(tmp_path)])
    (task,) = [one for one in named._found() if one.name == "made_up"]
    monkeypatch.setitem(tasks.TASKS, "made_up", task)
    assert "made_up" in choices.tasks()
    assert any("A made-up task" in option for option in form().selectbox(key="new_run_task").options)
    assert "A made-up task" in report.html(fabricated.make_run(task="made_up"))


def test_an_sae_format(monkeypatch):
    found = [sources.Found("x", 3, lambda: None)]
    monkeypatch.setitem(sources.FORMATS, "made up", lambda source, model: found if source == "x.sae" else None)
    assert sources.saes_in("x.sae", "m") == found
    with pytest.raises(CorrSteerError, match="There is no folder y.sae"):
        sources.saes_in("y.sae", "m")
    assert asked("fit", "--sae", "x.sae").sae == ["x.sae"]


def test_a_page_is_a_folder(monkeypatch, tmp_path):
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / "__init__.py").write_text(
        "from app.shared.pages import PageInfo\nPAGE = PageInfo('A made-up page', ':material/star:', 3)\n"
    )
    (tmp_path / "made_up" / "page.py").write_text(
        "import streamlit as st\ndef page():\n    st.markdown('What the made-up page says')\n"
    )
    monkeypatch.setattr(app, "__path__", [*app.__path__, str(tmp_path)])
    test = opened("made_up")
    assert "What the made-up page says" in [one.value for one in test.markdown]
    titles = [page.title for page in test.session_state["pages"].values()]
    assert titles[:1] == ["Overview"]
    assert "A made-up page" in titles
    for name in ("app.made_up", "app.made_up.page"):
        sys.modules.pop(name)


def test_every_page_is_in_the_navigation():
    found = pages()
    assert list(found) == ["overview", "start", "features", "steer", "evaluate", "blind", "report"]
    assert set(found) == {path.parent.name for path in (ROOT / "app").glob("*/page.py")}
    assert all(page.title and page.icon.startswith(":material/") for page in found.values())
