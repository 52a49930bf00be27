"""The reader's answers against the same worked out plainly from the stored rows."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.method import collecting
from corrsteer_core.reporting import ranking_words
from corrsteer_core.runs import (
    feature_facts,
    feature_lists,
    measurements,
    predictions,
    run_facts,
    stored_run,
    strategies,
)
from corrsteer_core.runs.feature_lists import FeatureFilter
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.storage import deleting, reading, run_folder
from corrsteer_core.storage.writing import Writer
from tests.made import fabricated


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORRSTEER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield fabricated.make_run()


def everything(run: str) -> pd.DataFrame:
    return reading.query(run, "SELECT * FROM features")


def keys(frame: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(frame["layer"].tolist(), frame["feature"].tolist(), strict=True))


def test_pages_put_together_are_the_whole_ranking_in_order(run):
    pages = [feature_lists.features(run, limit=50, offset=start) for start in range(0, 400, 50)]
    together = pd.concat(pages)
    assert len(together) == len(everything(run)) == feature_lists.count_features(run)
    r = together["r"].to_numpy()
    assert np.isnan(r[np.isnan(r).argmax() :]).all() or not np.isnan(r).any()
    assert (np.diff(r[~np.isnan(r)]) <= 0).all()
    assert keys(together)[0] == fabricated.HIGHEST_R


def test_filters_let_through_what_they_say(run):
    wanted = FeatureFilter(layers=(8, 22), r_low=-0.1, r_high=0.15, support=20, sort="support", descending=False)
    found = feature_lists.features(run, wanted, limit=1000)
    rows = everything(run)
    plain = rows[rows["layer"].isin([8, 22]) & rows["r"].between(-0.1, 0.15) & (rows["support"] >= 20)]
    assert sorted(keys(found)) == sorted(keys(plain))
    assert found["support"].is_monotonic_increasing
    assert feature_lists.count_features(run, wanted) == len(plain) > 0


def test_a_limit_on_q_leaves_out_features_without_one(run):
    found = feature_lists.features(run, FeatureFilter(q_high=0.5), limit=1000)
    rows = everything(run)
    assert len(found) == (rows["q"] <= 0.5).sum() > 0


def test_a_text_search_finds_features_whose_top_texts_hold_it_or_whose_number_it_is(run):
    words = "number 17"
    active = reading.query(run, "SELECT layer, feature, value, prompt FROM activations JOIN samples USING (sample)")
    top = active.sort_values("value", ascending=False).groupby(["layer", "feature"]).head(feature_lists.TOP_TEXTS)
    hits = set(keys(top[top["prompt"].str.contains(words)])) & set(keys(everything(run)))
    assert set(keys(feature_lists.features(run, FeatureFilter(text=words.upper()), limit=1000))) == hits
    assert fabricated.BEST_EFFECT in keys(feature_lists.features(run, FeatureFilter(text="41"), limit=1000))


@pytest.mark.parametrize("text", ["'; DROP TABLE features; --", "%", "\\", "$text"])
def test_text_is_never_sql(run, text):
    assert feature_lists.count_features(run, FeatureFilter(text=text)) == 0
    assert feature_lists.count_features(run) > 0


def test_sorting_by_something_else_is_an_error():
    with pytest.raises(CorrSteerError, match="cannot be sorted"):
        FeatureFilter(sort='r" --')  # type: ignore[arg-type]


def test_the_best_effect_stands_beside_each_tried_feature(run):
    rows = reading.query(run, "SELECT * FROM effects").assign(
        effect=lambda one: one["steered_rate"] - one["unsteered_rate"]
    )
    best = rows.groupby(["layer", "feature"])["effect"].max()
    tried = feature_lists.features(run, FeatureFilter(tried=True), limit=1000).set_index(["layer", "feature"])["effect"]
    pd.testing.assert_series_equal(tried.sort_index(), best.sort_index(), check_dtype=False, check_index_type=False)
    first = feature_lists.features(run, FeatureFilter(sort="effect"), limit=1)
    assert keys(first) == [fabricated.BEST_EFFECT]
    assert keys(feature_lists.best_effects(run))[0] == fabricated.BEST_EFFECT
    extremes = feature_lists.best_effects(run).set_index(["layer", "feature"]).loc[fabricated.HIGHEST_R]
    assert extremes[["effect", "scale"]].tolist() == [pytest.approx(-2 / 60), 1.0]
    assert extremes[["worst_effect", "worst_scale"]].tolist() == [pytest.approx(-16 / 60), 8.0]


def test_one_feature_is_its_row(run):
    layer, feature = fabricated.BEST_EFFECT
    row = feature_facts.one_feature(run, layer, feature)
    same = feature_lists.features(run, FeatureFilter(layers=(layer,)), limit=1000).set_index("feature").loc[feature]
    assert row is not None
    assert row["r"] == same["r"]
    assert row["support"] == same["support"]
    assert row["effect_scale"] == 8.0
    assert feature_facts.one_feature(run, layer, 10**6) is None


def test_best_by_layer_is_the_highest_r_that_reaches_the_floor(run):
    rows = everything(run)
    rows = rows[rows["support"] >= run_facts.facts(run).fit["floor"]]
    best = feature_lists.best_by_layer(run)
    assert best["layer"].tolist() == list(fabricated.LAYERS)
    assert best["r"].tolist() == rows.groupby("layer")["r"].max().tolist()
    assert best["level"].notna().all()


def test_histograms_add_up_to_the_frequencies(run):
    layer, feature = fabricated.HIGHEST_R
    bins = feature_facts.histogram(run, layer, feature)
    row = feature_facts.one_feature(run, layer, feature)
    assert bins["correct"].sum() == pytest.approx(row["frequency_correct"])
    assert bins["incorrect"].sum() == pytest.approx(row["frequency_incorrect"])
    assert len(bins) <= 20
    values = feature_facts.pooled_values(run, layer, feature)
    assert len(values) == fabricated.SPLITS["train"]
    assert (values["value"] > 0).sum() == row["support"]


def test_a_feature_that_never_fired_has_no_histogram(run):
    assert feature_facts.histogram(run, 8, 10**6).empty


def test_the_cloud_keeps_the_largest_and_samples_the_rest(run):
    whole = feature_lists.cloud(run, 10_000)
    some = feature_lists.cloud(run, 40)
    assert len(some) == 40
    assert keys(some)[:20] == keys(whole)[:20]
    assert set(some["ranked"]) == set(whole["ranked"]) == {len(whole)}
    assert keys(feature_lists.cloud(run, len(whole))) == keys(whole), "nothing is left out that has room"


def test_top_texts_are_the_most_active_samples(run):
    layer, feature = fabricated.HIGHEST_R
    found = feature_facts.top_texts(run, layer, feature, 5)
    active = reading.query(run, "SELECT value FROM activations WHERE layer = ? AND feature = ?", [layer, feature])
    assert found["value"].tolist() == active["value"].nlargest(5).tolist()


def test_the_headline_is_set_v_on_the_test_split(run):
    summary = run_facts.headline(run)
    assert summary is not None
    assert (summary["split"], summary["n"]) == ("test", fabricated.SPLITS["test"])
    samples = measurements.evaluated_samples(run, "V", "sentiment", "test", 1.0)
    assert len(samples) == summary["n"]
    with pytest.raises(CorrSteerError, match="not been measured"):
        measurements.evaluated_samples(run, "W", "sentiment", "test", 1.0)


def measured_as_the_demo(run, *splits):
    """What the first start leaves: its set measured on these splits."""
    measured = reading.query(run, "SELECT * FROM evaluations WHERE name = 'V'").drop(columns="run")
    with Writer(run) as store:
        store.connection.execute('UPDATE runs SET config = json_merge_patch(config, \'{"task": "tone"}\')')
        for split in splits:
            store.add("evaluations", measured.assign(name=run_facts.DEMO_SET, task="tone", split=split).head(1))


def test_the_first_start_is_done_when_its_set_is_measured_on_the_shifted_samples_too(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    run = fabricated.make_run()
    measured_as_the_demo(run, "test")
    assert run_facts.demo_run() is None
    assert run_facts.measured_splits(run, run_facts.DEMO_SET) == {"test"}
    measured_as_the_demo(run, "shifted")
    assert run_facts.demo_run() == run
    assert run_facts.measured_splits(run, run_facts.DEMO_SET) == {"test", "shifted"}


def test_a_damaged_run_is_listed_with_its_problem_and_harms_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    good = fabricated.make_run()
    measured_as_the_demo(good, "test", "shifted")
    broken = run_folder.runs_dir() / "broken-1"
    broken.mkdir()
    (broken / run_folder.PUBLISHED).write_bytes(b"no database")
    runs = run_facts.runs().set_index("run")
    assert runs.loc[good, "problem"] is None
    assert "cannot be read" in runs.loc["broken-1", "problem"]
    assert run_facts.demo_run() == good
    deleting.delete_run("broken-1")
    assert run_facts.runs()["run"].tolist() == [good]


def test_an_empty_cache_has_no_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "new"))
    assert run_facts.runs().empty
    assert run_facts.demo_run() is None


def test_going_on_with_a_run_asks_for_the_very_same_run(run):
    arguments = run_facts.fit_arguments(run)
    assert arguments[:3] == ["fit", "--model=SmolLM2-135M-Instruct", "--task=sentiment"]
    assert [one for one in arguments if one.startswith("--sae=")] == [
        f"--sae=embedded/layer_{n}" for n in fabricated.LAYERS
    ]
    assert {"--no-chat", "--pooling=max", "--seed=0", "--max-new-tokens=1"} <= set(arguments)


# --- findings ------------------------------------------------------------------------------------

FIT = {"samples": 200, "permutations": 200, "constant": False, "success_rate": 0.7, "floor": 5}


def test_a_ranking_within_chance_is_called_noise():
    for overall in ({"best": 0.2, "level": 0.25, "p": 0.4}, {"best": 0.2, "level": 0.19, "p": 0.06}):
        found = ranking_words.of_ranking(FIT, overall)
        assert not found.beyond_noise
        assert "This ranking is no better than chance" in found.sentence


def test_a_ranking_that_may_be_chance_is_not_said_to_be():
    """Between 1%, which is asked for, and 5%: the highest r is above what 95% of shuffles reach."""
    found = ranking_words.of_ranking(FIT, {"best": 0.36, "level": 0.34, "p": 0.02})
    assert not found.beyond_noise
    assert "may be no better than chance" in found.sentence
    assert "in 2% of shuffles; fewer than 1% are asked for" in found.sentence


def test_a_ranking_beyond_chance_says_what_chance_reaches():
    found = ranking_words.of_ranking(FIT, {"best": 0.53, "level": 0.25, "p": 0.005})
    assert found.beyond_noise
    assert "0.53" in found.sentence
    assert "0.25" in found.sentence


def test_a_constant_outcome_and_an_empty_ranking_are_said():
    assert "100%" in ranking_words.of_ranking({**FIT, "constant": True, "success_rate": 1.0}, None).sentence
    assert "no feature fired" in ranking_words.of_ranking(FIT, None).sentence


@pytest.mark.parametrize(("rate", "warning"), [(0.02, "Only 2 of the 100 training samples are right"), (0.1, None),
                                            (0.9, None), (0.99, "Only 1 of the 100 training samples is wrong")])  # fmt: skip
@pytest.mark.parametrize("p", [0.005, 0.5])
def test_a_rare_outcome_is_named_beside_the_ranking(rate, warning, p):
    fit = {**FIT, "samples": 100, "success_rate": rate}
    sentence = ranking_words.of_ranking(fit, {"best": 0.53, "level": 0.25, "p": p}).sentence
    assert (warning in sentence) if warning else ("Only" not in sentence)


def test_single_p_values_of_a_rare_outcome_are_far_too_small():
    """Why it is named: a feature that fires in both right samples by luck has a p of 1e-19, though 1 shuffle in 700 does it."""
    random = np.random.default_rng(0)
    fires = np.where(np.arange(300) < 12, 1.0 + random.random(300), 0.0)

    def least_p(right: int) -> float:
        outcomes = (np.arange(300) < right).astype(float)
        return min(scipy.stats.pearsonr(fires, random.permutation(outcomes)).pvalue for _ in range(2000))

    assert least_p(2) < 1e-9
    assert least_p(150) > 1e-5


def effects(*rows: tuple[int, int, float, float, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["layer", "feature", "r", "effect", "p"])
    won = (frame["effect"] > 0).astype(int)
    frame = frame.assign(scale=2.0, positive_flips=9 * won, negative_flips=9 - 9 * won, tries=4)
    return frame.assign(worst_effect=frame["effect"], worst_scale=2.0, worst_p=frame["p"])


def test_the_highest_r_that_harms_is_told_apart_from_the_best_effect():
    found = ranking_words.of_effects(effects((22, 7, 0.53, -0.15, 0.001), (8, 41, 0.16, 0.16, 0.0001)))
    assert found is not None
    assert found.beyond_noise
    assert "0.53, layer 22 feature 7) lowers the success rate by 15.0 points" in found.sentence
    assert "layer 8 feature 41, whose r is only 0.16, raises the success rate by 16.0 points" in found.sentence


def test_harm_at_a_larger_scale_is_not_hidden_behind_the_best_one():
    best = effects((27, 5, 0.52, -0.02, 0.5), (8, 41, 0.16, 0.16, 0.0001))
    best.loc[0, ["worst_effect", "worst_scale", "worst_p"]] = [-0.6, 8.0, 1e-9]
    found = ranking_words.of_effects(best)
    assert found is not None
    assert (
        "layer 27 feature 5) lowers the success rate by 60.0 points when steered (at scale 8; the best scale, 2, brings \u22122.0 points)"
        in found.sentence
    )


def test_effects_within_noise_are_said_to_be():
    found = ranking_words.of_effects(effects((22, 7, 0.5, 0.02, 0.6), (8, 1, 0.3, 0.03, 0.4)))
    assert found is not None
    assert not found.beyond_noise
    assert "None raises it by more than noise" in found.sentence


def test_an_average_that_rises_while_more_fall_than_rise_is_an_effect():
    """Graded outcomes: p is of the mean, whatever sides the flips change."""
    both = effects((22, 7, 0.5, 0.1, 0.001), (8, 1, 0.3, -0.1, 0.001))
    both[["positive_flips", "negative_flips"]] = both[["negative_flips", "positive_flips"]]
    found = ranking_words.of_effects(both)
    assert found is not None
    assert found.beyond_noise
    assert "raises the success rate by 10" in found.sentence


def test_where_the_highest_r_is_the_best_effect_it_says_so():
    found = ranking_words.of_effects(effects((22, 7, 0.5, 0.2, 0.001), (8, 1, 0.3, 0.03, 0.4)))
    assert found is not None
    assert "the best effect of all" in found.sentence


def test_a_feature_beyond_noise_is_not_hidden_behind_a_larger_effect_within_it():
    found = ranking_words.of_effects(effects((22, 7, 0.5, 0.0625, 0.11), (8, 1, 0.3, 0.056, 0.004)))
    assert found is not None
    assert found.beyond_noise
    assert "layer 8 feature 1, whose r is only 0.30, raises the success rate by 5.6 points" in found.sentence


def test_beyond_noise_is_what_it_is_for_the_strategy_that_chooses():
    """+7 / -1 flips: two-sided p .07, one-sided .035, which V takes."""
    found = ranking_words.of_effects(effects((22, 7, 0.5, 0.04, 0.0703)))
    assert found is not None
    assert found.beyond_noise


@pytest.mark.parametrize(
    ("p", "said"),  # 8 tries: 8 x p / 2 is 0.0496 and 0.052
    [(0.0124, "more than noise even for the best of 8 tries"), (0.013, "The best of 8 tries looks better than it is")],
)
def test_the_best_of_many_tries_is_said_to_be(p, said):
    found = ranking_words.of_effects(effects((22, 7, 0.5, 0.1, p), (8, 1, 0.3, 0.03, 0.4)))
    assert found is not None
    assert said in found.sentence


def test_nothing_tried_is_nothing_found():
    assert ranking_words.of_effects(effects()) is None


def test_texts_come_from_all_over_a_features_activations(run):
    layer, feature = fabricated.HIGHEST_R
    found = feature_facts.texts_by_quantile(run, layer, feature, each=4)
    rows = reading.query(run, f"SELECT * FROM activations WHERE layer = {layer} AND feature = {feature}")
    rows = rows.sort_values(["value", "sample"], ascending=[False, True]).reset_index(drop=True)
    n = len(rows)
    assert found["sample"].is_unique
    assert found["part"].drop_duplicates().tolist() == ["strongest", "upper quarter", "middle", "lower quarter"]
    for part, share in (("strongest", 0), ("upper quarter", 0.25), ("middle", 0.5), ("lower quarter", 0.75)):
        some = found[found["part"] == part]
        first = 0 if part == "strongest" else int(np.floor(n * share - 2))
        assert some["sample"].tolist() == rows["sample"].iloc[first : first + 4].tolist()
    few = feature_facts.texts_by_quantile(run, layer, feature, each=n)
    assert few["sample"].tolist() == rows["sample"].tolist()
    assert feature_facts.texts_by_quantile(run, layer, 99_999).empty


def test_ranks_are_the_layers_best_in_order(run):
    found = feature_lists.ranks(run, top=7)
    floor = reading.query(run, "SELECT floor FROM fits")["floor"][0]
    rows = everything(run)
    rows = rows[(rows["support"] >= floor) & rows["r"].notna()]
    for layer, some in found.groupby("layer"):
        best = rows[rows["layer"] == layer].sort_values(["r", "feature"], ascending=[False, True]).head(7)
        assert some["feature"].tolist() == best["feature"].tolist()
        assert some["rank"].tolist() == list(range(1, 8))


@pytest.mark.parametrize(
    ("wanted", "plain"),
    [
        (FeatureFilter(coefficient_low=0.5, coefficient_high=1.0), "coefficient BETWEEN 0.5 AND 1.0"),
        (FeatureFilter(frequency_low=0.1, frequency_high=0.3), "frequency BETWEEN 0.1 AND 0.3"),
        (FeatureFilter(correct_low=0.2), "frequency_correct >= 0.2"),
        (FeatureFilter(incorrect_high=0.2), "frequency_incorrect <= 0.2"),
        (FeatureFilter(incorrect_high=0.0), "frequency_incorrect <= 0"),
    ],
)
def test_each_column_can_be_bounded(run, wanted, plain):
    expected = reading.query(run, f"SELECT layer, feature FROM features WHERE {plain}")
    assert sorted(keys(feature_lists.features(run, wanted, limit=10_000))) == sorted(keys(expected))
    assert feature_lists.count_features(run, wanted) == len(expected)


def test_features_of_at_least_an_effect(run):
    found = feature_lists.features(run, FeatureFilter(effect_low=0.1), limit=1000)
    assert (found["effect"] >= 0.1).all()
    assert fabricated.BEST_EFFECT in keys(found)


def test_a_run_of_which_answers_are_missing_is_not_fitted():
    """The longest prompts are answered first: what is there is no sample of the task."""
    run = fabricated.make_run(fitted=False, measured=False, collected=0.5)
    with pytest.raises(CorrSteerError, match=r"has 140 of its 280 samples answered; run 'fit' again"):
        collecting.refit(run)


def test_a_run_of_before_there_were_predictions_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    old = fabricated.make_run()
    with duckdb.connect(run_folder.database_path(old)) as file:
        file.execute("DROP TABLE predictions")
    assert predictions.predictions(old).empty
    assert feature_lists.predicted_features(old) == 0
    with pytest.raises(CorrSteerError, match="Nothing is predicted yet"):
        predictions.predicted_against_measured(old)


def test_only_predictions_of_the_fit_of_today_are_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    name = fabricated.make_run()
    with Writer(name) as store:
        fitted = store.query("SELECT layer, feature, coefficient FROM features WHERE coefficient IS NOT NULL")
        stale = fitted.assign(own=True, predicted_effect=0.01, shift=None, tilt=None, toward=None, share=0.1)
        stale.loc[stale.index[:3], "coefficient"] += 1
        store.replace("predictions", stale)
    assert feature_lists.predicted_features(name) == len(fitted) - 3


def test_where_v_is_empty_the_run_is_told_by_another_set():
    """Choosing V again, by what is left beyond the prior, takes nothing away from what was measured of V by the rate."""
    run = fabricated.make_run()
    kept = measurements.sets(run).set_index("name").loc["V"]
    measured = reading.query(run, "SELECT * FROM evaluations WHERE name = 'V'").drop(columns="run")
    with Writer(run) as store:
        store.connection.execute("DELETE FROM evaluations")
        store.connection.execute("UPDATE sets SET name = ? WHERE name = 'V'", [strategies.BY_RATE])
        store.add("evaluations", measured.assign(name=strategies.BY_RATE))
    assert run_facts.headline(run)["set"] == strategies.BY_RATE
    empty = replace(SteeringSet.from_json(kept["body"]), name="V", rows=())
    stored_run.keep_set(run, empty, "V")
    assert run_facts.headline(run)["set"] == strategies.BY_RATE
    with Writer(run) as store:
        store.add("evaluations", measured.assign(name="V", content=empty.content))
    assert run_facts.headline(run)["set"] == strategies.BY_RATE, "a set that adds nothing tells least"
    again = SteeringSet.from_json(kept["body"])
    stored_run.keep_set(run, again, "V")
    with Writer(run) as store:
        store.add("evaluations", measured.assign(name="V", content=again.content))
    assert run_facts.headline(run)["set"] == "V", "where it is measured, V itself tells"
