"""r within the class of the right answer: computed by every fit, kept, shown, and chosen by."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.method import candidates
from corrsteer_core.reporting import ranking_words
from corrsteer_core.reporting.report import layer_rows
from corrsteer_core.runs import feature_facts, feature_lists, run_facts, stored_run
from corrsteer_core.runs.fit import FitSettings, fit
from corrsteer_core.storage import database, schema
from corrsteer_core.storage.reading import query
from corrsteer_core.storage.writing import Writer

N, D = 200, 12
MARKS, KNOWS = 0, 1
CONFIG = {
    "task": "planted", "model": "m", "model_fingerprint": "f", "dtype": "float32", "max_new_tokens": 1, "pooling": "max",
    "saes": [{"layer": 3, "source": "s", "hook_name": "h", "fingerprint": "f", "d_sae": D}], "limit": None,
    "style": {"chat": False, "system": "", "shots": []}, "seed": 0, "data": "", "scorer": "",
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))


def planted():
    """Outcomes of a model that says B too often; feature MARKS fires where B is right, feature KNOWS where it answers right."""
    rng = np.random.default_rng(5)
    right = np.where(np.arange(N) % 2, "B", "A")
    y = np.where(right == "B", rng.random(N) < 0.95, rng.random(N) < 0.4).astype(float)
    z = np.where(rng.random((N, D)) < 0.4, rng.random((N, D)), 0.0)
    z[:, MARKS] = np.where(right == "B", 2 + rng.random(N), 0.0)
    z[:, KNOWS] = np.where((y > 0) & (right == "A"), 1 + rng.random(N), 0.0) + 0.2 * rng.random(N)
    return right, y, z.astype(np.float32)


def make_run(name="planted", *, choices=("A", "B"), permutations=99):
    right, y, z = planted()
    items = [
        {"id": f"s{i:03}", "split": "train", "prompt": f"p{i}", "target": one, "choices": list(choices), "group": ""}
        for i, one in enumerate(right)
    ]
    samples = pd.DataFrame(
        {
            "sample": [one["id"] for one in items], "split": "train", "prompt": [one["prompt"] for one in items],
            "target": right, "output": "A", "outcome": y, "tokens": 1, "item": [json.dumps(one) for one in items],
        }
    )  # fmt: skip
    rows, features = z.nonzero()
    active = {"sample": samples["sample"].to_numpy()[rows], "layer": 3, "feature": features, "value": z[rows, features]}
    with Writer(name) as store:
        store.replace("runs", pd.DataFrame([{"config": json.dumps(CONFIG), "batch_size": 1}]))
        store.replace("samples", samples)
        store.replace("activations", pd.DataFrame(active))
        fit(store, FitSettings(permutations=permutations))
    return name


def dense_within_r(z, y, right):
    """Correlation of what is left after each class's mean is taken off, feature by feature."""
    z, y = z.astype(float).copy(), y.copy()
    for name in ("A", "B"):
        z[right == name] -= z[right == name].mean(axis=0)
        y[right == name] -= y[right == name].mean()
    return np.array([np.corrcoef(column, y)[0, 1] for column in z.T])


def test_a_fit_keeps_r_within_the_class_beside_plain_r():
    right, y, z = planted()
    found = stored_run.features_of(make_run()).set_index("feature").sort_index()
    assert found["r_within"].to_numpy() == pytest.approx(dense_within_r(z, y, right), abs=1e-6)
    assert found["r"].idxmax() == MARKS
    assert abs(found.loc[MARKS, "r_within"]) < 0.15
    assert found["r_within"].idxmax() == KNOWS


def test_its_p_is_that_of_permutations_within_classes():
    right, y, z = planted()
    found = stored_run.features_of(make_run(permutations=999)).set_index("feature").sort_index()
    seen, rng = np.abs(dense_within_r(z, y, right)), np.random.default_rng(77)
    reached = np.zeros(D)
    for _ in range(999):
        dealt = y.copy()
        for name in ("A", "B"):
            dealt[right == name] = rng.permutation(y[right == name])
        reached += np.abs(dense_within_r(z, dealt, right)) >= seen - 1e-12
    expected = (1 + reached) / 1000
    assert found["p_within"].to_numpy() == pytest.approx(expected, abs=0.08)
    assert found.loc[KNOWS, "p_within"] == 0.001
    assert found.loc[MARKS, "p_within"] > 0.1


def test_the_best_within_the_class_stands_beside_what_chance_reaches_and_in_the_sentence():
    run = make_run(permutations=199)
    overall = run_facts.chance(run)
    best = stored_run.features_of(run)["r_within"].max()
    assert overall["within_best"] == pytest.approx(best)
    assert overall["within_p"] == pytest.approx(1 / 200)
    said = ranking_words.of_ranking(run_facts.facts(run).fit, overall).sentence
    assert "Within the class of the right answer" in said
    assert f"the highest r is {best:.2f}, beyond chance too" in said


def test_without_classes_it_is_null_and_nothing_is_said_of_it():
    run = make_run("free", choices=())
    assert stored_run.features_of(run)["r_within"].isna().all()
    assert not feature_lists.known_columns(run) & {"r_within", "p_within"}
    assert feature_facts.one_feature(run, 3, KNOWS)["r_within"] is None
    overall = run_facts.chance(run)
    assert overall["within_best"] is None
    assert "Within the class" not in ranking_words.of_ranking(run_facts.facts(run).fit, overall).sentence
    with pytest.raises(CorrSteerError, match="not of several classes"):
        candidates.rankable_features(run, ranking="within_class")


def test_features_are_sorted_and_chosen_by_it():
    run = make_run()
    wanted = feature_lists.FeatureFilter(sort="r_within")
    assert feature_lists.features(run, wanted)["feature"].iloc[0] == KNOWS
    chosen = candidates.rankable_features(run, ranking="within_class")
    known = stored_run.features_of(run).set_index("feature")["r_within"]
    assert chosen["feature"].iloc[0] == KNOWS
    assert (known[chosen["feature"]] > 0).all()
    assert chosen["rank"].to_numpy() == pytest.approx(known[chosen["feature"]].to_numpy())


def test_a_run_of_before_has_none_until_it_is_fitted_again(monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(database, "MIGRATIONS", schema.MIGRATIONS[:6])
        with Writer("old") as store:
            store.replace("runs", pd.DataFrame([{"config": json.dumps(CONFIG), "batch_size": 1}]))
            row = {"layer": 3, "feature": 1, "r": 0.4, "coefficient": 1.0, "support": 50, "frequency": 0.25}
            store.replace("features", pd.DataFrame([row]))
    assert query("old", "SELECT r, r_within FROM features")["r_within"].isna().all()
    assert query("old", "SELECT within_best FROM chance").empty
    assert feature_lists.features("old")["r"].tolist() == [0.4]


def test_the_report_has_a_column_of_it_where_there_are_classes():
    of_classes, free = map(feature_lists.best_by_layer, (make_run(), make_run("free", choices=())))
    (row,), (plain,) = layer_rows(of_classes), layer_rows(free)
    assert row[4] == f"{of_classes['r_within'][0]:+.3f}".replace("-", "\u2212").replace("+0.000", "\u00b10.000")
    assert plain == (*row[:4], *row[5:])
