"""The API's block in the README, on a tiny model; a run's tables are the rooms' own, its pictures show them."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import corrsteer_core as cs
from corrsteer_core.runs import feature_lists
from corrsteer_core.tasks import get_task, load_items
from tests.made import fabricated
from tests.made import runs as tiny_run

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))


def test_the_block_in_the_readme_runs(capsys, monkeypatch, tmp_path):
    """As it stands, but for the model (a tiny one, in a folder) and what it is asked (a task that it half fails)."""
    model, saes = tiny_run.load()
    (block,) = re.findall(r"```python\n(import corrsteer_core as cs\n.*?)```", README.read_text("utf-8"), re.DOTALL)
    items = [{"prompt": item.prompt, "target": "[!-~]"} for item in load_items(get_task("sentiment"), limit=120)]
    (tmp_path / "letters.jsonl").write_text("\n".join(map(json.dumps, items)))
    asked = f"data={str(tmp_path / 'letters.jsonl')!r}, scorer='regex', max_new_tokens=3, chat=False"
    folder = str(Path(saes[0].source).parent)
    for old, new in (
        ("load_model()", f"load_model({model.name!r})"),
        ('fit("sentiment", model)', f"fit(model=model, sae={folder!r}, {asked})"),
        ('objective="rate"', 'objective="rate", scales=(2.0,), per_layer=2'),
    ):
        assert block.count(old) == 1, old
        block = block.replace(old, new)
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    exec(compile(block, "README", "exec"), known)
    said = capsys.readouterr().out
    assert str(cs.evaluate(known["v"], model=known["model"]).verdict) in said
    assert known["run"].evaluations()["name"].tolist() == [known["v"].name]
    assert cs.list_runs()["run"].tolist() == [known["run"].name]
    again = cs.open_run(known["run"].name)
    assert list(again.sets()) == [known["v"].name]


def test_the_model_of_a_set_is_the_one_in_memory_while_somebody_holds_it(monkeypatch):
    from corrsteer_core.api import models

    model, saes = tiny_run.load()
    models.held(model)
    monkeypatch.setattr("corrsteer_core.models.loading.load_model", lambda *a, **k: pytest.fail("it was loaded again"))
    v = cs.Steering.of(tiny_run.steering_set(model, saes, (1, 3, 9.0)))
    unsteered, steered = cs.generate("the cat", v, max_new_tokens=5)
    assert unsteered != steered
    assert cs.generate("the cat", 0 * v, max_new_tokens=5) == (unsteered, unsteered)


def test_what_a_run_says_is_what_its_tables_hold():
    run = cs.open_run(fabricated.make_run())
    features = run.features(limit=20)
    assert (features["layer"][0], features["feature"][0]) == fabricated.HIGHEST_R
    assert features["r"].is_monotonic_decreasing
    assert set(run.features(layers=(8,))["layer"]) == {8}
    assert (run.effects()["layer"][0], run.effects()["feature"][0]) == fabricated.BEST_EFFECT
    assert list(run.sets()) == ["S", "A", "V"]
    chance = run.chance()
    assert chance["layer"].isna().tolist() == [True, False, False, False]
    texts = run.texts(*fabricated.HIGHEST_R, limit=4)
    assert len(texts) == 4
    assert texts["value"].is_monotonic_decreasing
    assert len(run.samples(["test"])) == fabricated.SPLITS["test"]
    assert run.facts().layers == fabricated.LAYERS
    with pytest.raises(cs.CorrSteerError, match="no filter colour; there are layers"):
        run.features(colour="red")


def test_a_run_draws_what_its_tables_hold():
    run = cs.open_run(fabricated.make_run())
    best = feature_lists.best_effects(run.name)
    drawn = run.plot_effects(fabricated.BEST_EFFECT)
    assert sorted(x for trace in drawn.data[:2] for x in trace.x) == sorted(best["r"])
    assert list(run.plot_best_by_layer().data[0].y) == list(feature_lists.best_by_layer(run.name)["r"])
    points = feature_lists.cloud(run.name)
    assert list(run.plot_features().data[0].x) == list(points["frequency"])
    assert list(run.plot_ranks(5).data[0].x) == [1, 2, 3, 4, 5] * 3
    assert len(run.plot_convergence().data) == 2
    tried = run.effects(*fabricated.BEST_EFFECT)
    assert len(run.plot_effects_by_scale(*fabricated.BEST_EFFECT).data[0].x) == 1 + len(tried)
    assert len(run.plot_activations(*fabricated.HIGHEST_R).data) == 2


def test_a_picture_of_nothing_is_a_sentence():
    run = cs.open_run(fabricated.make_run(measured=False))
    with pytest.raises(
        cs.CorrSteerError, match="No feature has been tried in the run .*; select a set by strategy P or V"
    ):
        run.plot_effects()
    with pytest.raises(cs.CorrSteerError, match="Feature 3 of layer 8 has not been tried"):
        run.plot_effects_by_scale(8, 3)
    with pytest.raises(cs.CorrSteerError, match="Feature 100000 of layer 8 was never active"):
        run.plot_activations(8, 100000)
    assert isinstance(run.effects(), pd.DataFrame)


def test_what_cannot_be_is_said():
    with pytest.raises(cs.CorrSteerError, match="There is no run 'none'"):
        cs.open_run("none")
    with pytest.raises(cs.CorrSteerError, match="Name a task, as in fit"):
        cs.fit()
    with pytest.raises(cs.CorrSteerError, match="There is no dtype 'float99'"):
        cs.load_model(dtype="float99")
    model, saes = tiny_run.load()
    with pytest.raises(cs.CorrSteerError, match="belongs to no task; name one"):
        cs.evaluate(tiny_run.steering_set(model, saes, (1, 3, 9.0)))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cs.nothing  # noqa: B018
    assert set(cs.__all__) <= set(dir(cs))
