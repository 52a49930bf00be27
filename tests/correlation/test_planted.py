"""What is there is found, and what is not there is called chance: planted data and pure noise, through the real fit."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from corrsteer_core.reporting import ranking_words
from corrsteer_core.runs import reliability, run_facts, stored_run
from corrsteer_core.runs.fit import FitSettings, fit
from corrsteer_core.storage.writing import Writer
from tests.made import fabricated

LAYERS = (8, 15, 22)
N = 200


def write(store, d_sae, rng, density=0.15):
    """A collected run of N training samples and len(LAYERS) x d_sae features that know nothing of the outcome."""
    config = fabricated._config("sentiment")
    for sae in config["saes"]:
        sae["d_sae"] = d_sae
    store.replace("runs", pd.DataFrame([{"created": fabricated.NOW, "config": config, "batch_size": 16}]))
    samples = pd.DataFrame({"sample": [f"s{place:04d}" for place in range(N)], "split": "train", "prompt": "p"})
    store.replace("samples", samples.assign(output="o", outcome=(rng.random(N) < 0.6).astype(float), tokens=1))
    fired = rng.random((N, len(LAYERS), d_sae)) < density
    rows, layers, features = fired.nonzero()
    store.replace(
        "activations",
        pd.DataFrame(
            {
                "sample": samples["sample"].to_numpy()[rows],
                "layer": np.array(LAYERS)[layers],
                "feature": features,
                "value": rng.gamma(2.0, 1.0, len(rows)).astype(np.float32),
            }
        ),
    )


def finding(run):
    facts = run_facts.facts(run)
    return ranking_words.of_ranking(facts.fit, run_facts.chance(run))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))


def test_the_one_feature_that_drives_the_outcome_is_found_among_ten_thousand():
    rng = np.random.default_rng(5)
    with Writer("sentiment-planted") as store:
        write(store, 3_400, rng)
        z = store.query(
            "SELECT coalesce(value, 0) AS z FROM samples LEFT JOIN (SELECT * FROM activations WHERE layer = 15 "
            "AND feature = 1234) USING (sample) ORDER BY sample"
        )["z"]
        outcome = (rng.random(N) < np.where(z > 0, 0.95, 0.35)).astype(float)
        store.connection.register("planted", pd.DataFrame({"sample": [f"s{i:04d}" for i in range(N)], "y": outcome}))
        store.connection.execute("UPDATE samples SET outcome = y FROM planted WHERE samples.sample = planted.sample")
        fit(store, FitSettings())
    best = stored_run.features_of("sentiment-planted").iloc[0]
    assert (best["layer"], best["feature"]) == (15, 1234)
    assert best["r"] == pytest.approx(scipy_stats.pearsonr(z, outcome).statistic)
    found = finding("sentiment-planted")
    assert found.beyond_noise, found.sentence
    assert best["q"] < 0.05
    interval = reliability.intervals("sentiment-planted", best.to_frame().T.reset_index(drop=True), resamples=300).iloc[
        0
    ]
    assert 0.1 < interval["r_low"] < best["r"] < interval["r_high"]


@pytest.mark.parametrize("seeds", [25, pytest.param(100, marks=pytest.mark.exhaustive)])
def test_pure_noise_is_no_better_than_chance_for_nearly_every_seed(seeds):
    rng = np.random.default_rng(11)
    run = "sentiment-noise"
    said, best_p = [], []
    with Writer(run) as store:
        write(store, 60, rng, density=0.1)
    for seed in range(seeds):
        with Writer(run) as store:
            outcome = (np.random.default_rng(seed).random(N) < 0.6).astype(float)
            store.connection.register("drawn", pd.DataFrame({"sample": [f"s{i:04d}" for i in range(N)], "y": outcome}))
            store.connection.execute("UPDATE samples SET outcome = y FROM drawn WHERE samples.sample = drawn.sample")
            store.connection.unregister("drawn")
            fit(store, FitSettings(seed=seed))
        found = finding(run)
        assert found.beyond_noise or "no better than chance" in found.sentence
        said.append(found.beyond_noise)
        best_p.append(run_facts.chance(run)["p"])
    assert sum(said) <= max(4, seeds / 20)
    # The p-value of the best r under pure noise is uniform, so it can be trusted at any level.
    assert scipy_stats.kstest(best_p, "uniform").pvalue > 0.01


def test_too_few_shuffles_are_not_taken_for_evidence():
    with Writer("sentiment-few") as store:
        write(store, 50, np.random.default_rng(1))
        fit(store, FitSettings(permutations=50))
    assert "too few to tell" in finding("sentiment-few").sentence
