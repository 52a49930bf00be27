"""Two runs by the features that both rank: r against r, and those that lead both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from streamlit.testing.v1 import AppTest

from app.overview import feature_pairs
from app.shared import components
from corrsteer_core.correlation import agreement
from corrsteer_core.inspection import descriptions
from corrsteer_core.reporting import feature_figures
from corrsteer_core.runs import feature_lists, run_facts, stored_run
from corrsteer_core.storage import writing
from tests.app import ready_runs

OTHER = "sentiment-0fab1e01"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))


@pytest.fixture
def runs() -> tuple[str, str]:
    return ready_runs.make_run(), ready_runs.make_run(OTHER, seed=3)


def with_other_sae(run: str, layer: int | None = None) -> None:
    """Let a run have been made with another SAE at a layer, or at all of them."""
    config = dict(run_facts.facts(run).config)
    config["saes"] = [
        {**sae, "fingerprint": "another"} if layer in (None, sae["layer"]) else sae for sae in config["saes"]
    ]
    with writing.Writer(run) as store:
        store.query("UPDATE runs SET config = ?", [json.dumps(config)])


def ranked(run: str) -> dict[tuple[int, int], float]:
    """r of every feature that reaches the floor, from the whole table of features."""
    floor = int(stored_run.fit_summary(run)["floor"])
    rows = stored_run.features_of(run)
    kept = rows[rows["r"].notna() & (rows["support"] >= floor)]
    return {(row.layer, row.feature): row.r for row in kept.itertuples()}


def drawn(*names: str) -> AppTest:
    def script():
        import streamlit as st

        from app.overview import feature_pairs

        feature_pairs.draw(st.session_state["names"])

    test = AppTest.from_function(script, default_timeout=600)
    test.session_state["names"] = list(names)
    test.run()
    assert not test.exception
    return test


def words(test: AppTest) -> str:
    return "\n".join(str(one.value) for kind in ("markdown", "caption") for one in test.get(kind)).replace("\\", "")


def test_the_pairs_are_the_features_that_both_rank(runs):
    one, other = (ranked(run) for run in runs)
    pairs = feature_lists.in_both(*runs)
    keys = list(zip(pairs["layer"], pairs["feature"], strict=True))
    assert set(keys) == one.keys() & other.keys()
    assert pairs["r"].tolist() == [one[key] for key in keys]
    assert pairs["other_r"].tolist() == [other[key] for key in keys]


def test_a_feature_means_what_either_run_says(runs):
    key = feature_lists.in_both(*runs)[["layer", "feature"]].iloc[0].to_dict()
    described = {**key, "source": "own", "description": "said by the other"}
    descriptions.keep(runs[1], pd.DataFrame([described]))
    row = feature_lists.in_both(*runs).iloc[0]
    assert (row["description"], row["description_source"]) == ("said by the other", "own")
    descriptions.keep(runs[0], pd.DataFrame([{**described, "source": "neuronpedia", "description": "said by the one"}]))
    row = feature_lists.in_both(*runs).iloc[0]
    assert (row["description"], row["description_source"]) == ("said by the one", "neuronpedia")


def test_only_layers_with_the_same_sae_are_compared(runs):
    layers = feature_lists.shared_layers(*runs)
    assert layers == list(run_facts.facts(runs[0]).layers)
    with_other_sae(runs[1], layers[0])
    assert feature_lists.shared_layers(*runs) == layers[1:]
    assert set(feature_lists.in_both(*runs)["layer"]) == set(layers[1:])
    with_other_sae(runs[1])
    assert feature_lists.in_both(*runs).empty
    assert "no SAE in common" in words(drawn(*runs))


def test_the_agreement_is_that_of_the_ranks_and_of_the_first():
    rng = np.random.default_rng(0)
    r = rng.normal(size=300)
    pairs = pd.DataFrame({"layer": 1, "feature": range(300), "r": r, "other_r": r + rng.normal(size=300)})
    found = agreement.agreement(pairs, top=25)
    ranks = [rankdata(pairs[column]) for column in ("r", "other_r")]
    assert found.rank_correlation == pytest.approx(np.corrcoef(*ranks)[0, 1])
    heads = [set(np.argsort(-pairs[column].to_numpy())[:25]) for column in ("r", "other_r")]
    assert set(found.leading["feature"]) == heads[0] & heads[1]
    assert len(found.leading) > 2
    assert found.leading[["r", "other_r"]].min(axis=1).is_monotonic_decreasing
    draws = [len(set(rng.permutation(300)[:25]) & set(range(25))) for _ in range(4000)]
    assert found.by_chance == pytest.approx(np.mean(draws), abs=0.1)
    same = agreement.agreement(pairs.assign(other_r=0.1))
    assert same.rank_correlation is None
    few = agreement.agreement(pairs.head(2))
    assert (few.top, few.rank_correlation, few.features) == (2, None, 2)
    assert agreement.agreement(pairs.head(0)).by_chance == 0


def test_of_many_pairs_the_largest_and_a_sample_are_shown():
    rng = np.random.default_rng(0)
    pairs = pd.DataFrame({"feature": range(3000), "r": rng.normal(size=3000), "other_r": rng.normal(size=3000)})
    shown = agreement.shown(pairs, 200)
    assert shown["feature"].is_unique
    assert len(shown) == 200
    largest = np.argsort(-np.maximum(pairs["r"].abs(), pairs["other_r"].abs()))[:100]
    assert set(largest) <= set(shown["feature"])
    assert agreement.shown(pairs.head(200), 200).equals(pairs.head(200))


def test_the_picture_has_every_pair_at_its_two_r(runs):
    pairs = feature_lists.in_both(*runs)
    found = agreement.agreement(pairs)
    figure = feature_figures.r_against_r(pairs, found.leading, ("<b>one</b>", "two"))
    rest, leading, line = figure.data
    seen = {
        (layer, feature): (x, y)
        for trace in (rest, leading)
        for (layer, feature, *_), x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }
    assert seen == {(row.layer, row.feature): (row.r, row.other_r) for row in pairs.itertuples()}
    assert len(leading.x) == len(found.leading)
    assert list(line.x) == list(line.y)
    assert "<b>" not in str(figure.to_dict())


def test_two_runs_are_compared_in_words_picture_and_table(runs):
    test = drawn(*runs)
    pairs = feature_lists.in_both(*runs)
    found = agreement.agreement(pairs)
    assert f"Both runs rank {len(pairs)} features of layers" in words(test)
    assert f"Their ranks agree by {components.signed(found.rank_correlation)} (Spearman" in words(test)
    assert f"Of the 20 features of highest r in each, {len(found.leading)} are the same" in words(test)
    table = test.dataframe[-1].value
    assert table["Feature"].tolist() == found.leading["feature"].tolist()
    assert table[f"r in {OTHER}"].tolist() == [components.signed(r) for r in found.leading["other_r"]]


def test_of_three_runs_two_are_chosen(runs):
    third = ready_runs.make_run("sentiment-0fab1e02", seed=5)
    test = drawn(*runs, third)
    test.selectbox(key="pair_other").set_value(third).run()
    assert not test.exception
    found = agreement.agreement(feature_lists.in_both(runs[0], third))
    assert feature_pairs.said(found, feature_lists.shared_layers(runs[0], third)) in words(test)
    test.selectbox(key="pair_one").set_value(third).run()
    assert "Choose two different runs." in words(test)


def test_a_run_that_is_not_ranked_yet_shares_nothing(runs):
    raw = ready_runs.make_run("sentiment-0fab1e02", fitted=False, measured=False)
    assert "No feature is ranked in both runs yet." in words(drawn(runs[0], raw))
