"""What a set was measured against, and what its features mean, as the first page shows them."""

from __future__ import annotations

import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from corrsteer_core.inspection import descriptions
from corrsteer_core.reporting import figures, rival_groups
from corrsteer_core.reporting.rate_rows import FLIPPED, TURNED, UNIGRAM
from corrsteer_core.runs import feature_facts, measurements
from corrsteer_core.runs.steering_set import SteeringSet
from tests.made import fabricated


def summary(**more):
    def one(rate):
        return {"steered_rate": rate, "steered_interval": [rate - 0.1, rate + 0.1]}

    return {
        "n": 200, "unsteered_rate": 0.5, "unsteered_interval": [0.43, 0.57],
        "steered_rate": 0.7, "steered_interval": [0.63, 0.76],
        "controls": {"random 1": one(0.5), "random 2": one(0.52), FLIPPED: one(0.3)},
        "matched": {"matched 1": one(0.55)},
        **more,
    }  # fmt: skip


def test_each_rival_stands_in_its_group_and_all_rates_are_the_measured_ones():
    rows = rival_groups.grouped(summary(offset={"rate": 0.66}, beyond_prior={"steered_rate": 0.71}), "set V")
    assert rows["group"].tolist() == [
        "unsteered", "set V", rival_groups.CONSTANT, rival_groups.RANDOM, rival_groups.RANDOM, TURNED,
        rival_groups.CHOSEN_ALIKE,
    ]  # fmt: skip
    assert rows["rate"].tolist() == [0.5, 0.7, 0.66, 0.5, 0.52, 0.3, 0.55]
    low, high = proportion_confint(132, 200, method="wilson")
    assert rows.loc[2, ["low", "high"]].tolist() == pytest.approx([low, high])


def test_the_push_on_words_and_the_rivals_of_a_tournament_have_rows_too():
    def rival(name, kind, rate):
        return {"rival": name, "kind": kind, "rate": rate, "rate_interval": [rate - 0.1, rate + 0.1]}

    tournament = [
        rival("prompt: a rule", "prompt", 0.6), rival("prompt: 4 examples", "prompt", 0.8),
        rival("one constant per class", "offset", 0.66), rival("constrained decoding", "constrained", 0.5),
    ]  # fmt: skip
    push = {UNIGRAM: {"steered_rate": 0.4, "steered_interval": [0.3, 0.5]}}
    rows = rival_groups.grouped(summary(controls=push, matched={}, tournament=tournament), "V").iloc[2:]
    assert rows["group"].tolist() == [
        "constant push on words", rival_groups.PROMPTS, rival_groups.PROMPTS, "constrained decoding",
    ]  # fmt: skip
    assert rows["rate"].tolist() == [0.4, 0.6, 0.8, 0.5]
    assert rows["low"].tolist() == pytest.approx([0.3, 0.5, 0.7, 0.4])


def test_only_what_stands_alone_is_drawn_with_its_interval():
    figure = figures.against_rivals(rival_groups.grouped(summary(), "set <V>"))
    drawn = {trace.y[0]: trace for trace in figure.data}
    assert list(drawn["set &lt;V&gt;"].x) == [0.7]
    assert drawn["set &lt;V&gt;"].error_x.visible
    assert list(drawn[rival_groups.RANDOM].x) == [0.5, 0.52]
    assert not drawn[rival_groups.RANDOM].error_x.visible


def test_a_set_without_controls_is_drawn_too():
    rows = rival_groups.grouped(summary(controls={}, matched={}), "V")
    assert rows["group"].tolist() == ["unsteered", "V"]
    assert len(figures.against_rivals(rows).data) == 2


def test_a_feature_is_told_by_its_description_the_one_of_neuronpedia_first(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    run = fabricated.make_run()
    kept = SteeringSet.from_json(measurements.sets(run).set_index("name").loc["V", "body"])
    row = kept.rows[0]
    told = {
        "layer": row.layer,
        "feature": row.feature,
        "source": "own",
        "description": "Most active at \u201chappy\u201d",
    }
    descriptions.keep(run, pd.DataFrame([told]))
    said = feature_facts.meanings(run, kept)
    assert said.loc[0].tolist() == [row.layer, row.feature, row.coefficient, told["description"], ""]
    assert set(said["meaning"][1:]) <= {""}
    descriptions.keep(run, pd.DataFrame([{**told, "source": "neuronpedia", "description": "words of joy"}]))
    assert feature_facts.meaning(run, row.layer, row.feature) == "words of joy"
