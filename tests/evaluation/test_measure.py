"""Sweeps, transfer, controls and constrained decoding on a tiny model: every number against the plain way."""

import json
import weakref
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as scipy_stats

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine import activation_lengths
from corrsteer_core.engine import fluency as fluency_of
from corrsteer_core.engine import steering as engine_steering
from corrsteer_core.engine.fluency import fluency
from corrsteer_core.evaluation import measure
from corrsteer_core.evaluation.measure import evaluate_set, sweep, transfer
from corrsteer_core.evaluation.multiple_choice import CONSTRAINED, CONSTRAINED_STEERED, choice_tokens
from corrsteer_core.evaluation.trials import trial, unsteered_and
from corrsteer_core.inspection import playground
from corrsteer_core.method import candidates, difference_baseline, run_setup, selecting
from corrsteer_core.method.validation import Tried
from corrsteer_core.models import devices, limits
from corrsteer_core.models.prompts import render
from corrsteer_core.reporting import report_contents
from corrsteer_core.reporting.verdict import verdict
from corrsteer_core.runs import feature_facts, feature_lists, measurements, reliability, run_facts, stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.storage import reading
from corrsteer_core.tasks import get_task, limited, load_items
from tests.made import runs as tiny
from tests.made.models import activations_at

LIMIT = 12


@pytest.fixture
def run(loaded):
    return tiny.make_run(*loaded)


@pytest.fixture
def steering(run):
    return stored_run.kept_sets(run)["A"]


def test_a_sweep_is_the_evaluations_of_its_scales(loaded, steering):
    model, saes = loaded
    task = get_task("sentiment")
    together = sweep(steering, [task], (0.0, 1.0, 3.0), limit=LIMIT, model=model, saes=saes)
    for one in together:
        alone = evaluate_set(steering, task, scale=one.scale, limit=LIMIT, model=model, saes=saes)
        assert one.comparison == alone.comparison
        pd.testing.assert_frame_equal(one.samples, alone.samples)
        assert one.fluency_steered == pytest.approx(alone.fluency_steered, rel=1e-4)
    assert together[0].comparison.changed == 0
    assert together[0].fluency_steered == together[0].fluency_unsteered


def test_the_interval_of_the_effect_is_of_the_paired_differences(loaded, steering):
    model, saes = loaded
    steering = replace(steering.scaled(20.0), task="")
    found = evaluate_set(steering, get_task("overrefusal"), limit=LIMIT, model=model, saes=saes)
    differences = found.samples["outcome_steered"] - found.samples["outcome_unsteered"]
    low, high = found.summary()["effect_interval"]
    assert low <= differences.mean() <= high
    up, down = int((differences > 0).sum()), int((differences < 0).sum())
    p = scipy_stats.binomtest(up, up + down).pvalue if up + down else 1.0
    assert found.comparison.p == pytest.approx(p)
    assert (low > 0 or high < 0) == (p < 0.05), "the interval and the test agree"


def test_what_a_sweep_measured_is_kept_scale_by_scale(loaded, steering, run):
    model, saes = loaded
    tasks = [get_task("sentiment"), get_task("capitals")]
    sweep(steering, tasks, (1.0, 2.0), limit=LIMIT, model=model, saes=saes)
    kept = measurements.evaluations(run)
    assert {(row.task, row.scale) for row in kept.itertuples()} == {
        (task.name, scale) for task in tasks for scale in (1.0, 2.0)
    }


def test_controls_once_measured_are_not_lost_to_a_sweep(loaded, steering, run):
    model, saes = loaded
    task = get_task("sentiment")
    evaluate_set(steering, task, limit=LIMIT, control_count=2, model=model, saes=saes)
    sweep(steering, [task], (1.0,), limit=LIMIT, model=model, saes=saes)
    summary = measurements.evaluations(run).iloc[0]["summary"]
    assert set(summary["controls"]) == {"random 1", "random 2", "sign flipped", "unigram"}
    sweep(steering, [task], (1.0,), limit=LIMIT + 2, model=model, saes=saes)
    sweep(steering, [task], (1.0,), limit=LIMIT - 2, model=model, saes=saes)
    kept = measurements.evaluations(run)
    assert kept["n"].tolist() == [LIMIT - 2, LIMIT + 2, LIMIT], "each number of samples has its own, newest first"
    assert kept.iloc[2]["summary"] == summary
    assert kept.iloc[0]["summary"]["controls"] == {}, "other samples, other controls"
    assert len(measurements.evaluated_samples(run, "A", "sentiment", "test", 1.0)) == LIMIT + 2
    assert len(measurements.evaluated_samples(run, "A", "sentiment", "test", 1.0, n=LIMIT)) == LIMIT


def test_controls_and_matched_sets_are_kept_each_by_itself(loaded, steering, run):
    """Whichever is measured later, the other stays, with what was found sample by sample and how often features fire."""
    model, saes = loaded
    task = get_task("sentiment")
    drawn = [replace(steering, name="matched 1", rows=tuple(replace(row, coefficient=1.0) for row in steering.rows))]
    asked = {"limit": LIMIT, "model": model, "saes": saes}
    evaluate_set(steering, task, control_count=2, **asked)
    evaluate_set(steering, task, matched=drawn, **asked)
    kept = measurements.evaluations(run).iloc[0]["summary"]
    everyone = {"random 1", "random 2", "sign flipped", "unigram", "matched 1"}
    assert set(kept["controls"]) == everyone - {"matched 1"}
    assert set(kept["matched"]) == {"matched 1"}
    assert set(kept["against"]) == everyone
    assert set(kept["frequencies"]) == everyone - {"unigram"} | {""}
    evaluate_set(steering, task, control_count=1, **asked)
    kept = measurements.evaluations(run).iloc[0]["summary"]
    assert set(kept["controls"]) == {"random 1", "sign flipped", "unigram"}
    assert set(kept["matched"]) == {"matched 1"}
    assert set(kept["against"]) == everyone - {"random 2"}


@pytest.mark.parametrize("measuring", ["evaluate", "sweep", "transfer", "generate"])
def test_a_set_of_a_float32_run_is_measured_in_float32(loaded, steering, run, monkeypatch, measuring):
    """Also on a machine that would do better in bfloat16: its numbers are to be those of the run."""
    model, saes = loaded
    assert stored_run.stored(run)[0].dtype == "float32"
    asked = []

    def load(name, *, dtype=None, like="", **_):
        asked.append((name, dtype or devices.dtype_to_go_on(like)))
        return model

    monkeypatch.delenv("CORRSTEER_DTYPE", raising=False)
    monkeypatch.setattr(engine_steering, "load_model", load)
    monkeypatch.setattr(measure, "saes_of", lambda refs, model: saes)
    monkeypatch.setattr(playground, "saes_of", lambda refs, model: saes)
    task = get_task("sentiment")
    {
        "evaluate": lambda: evaluate_set(steering, task, limit=4),
        "sweep": lambda: sweep(steering, [task], (1.0,), limit=4),
        "transfer": lambda: transfer([steering], [task], limit=4),
        "generate": lambda: playground.side_by_side(steering, "so", max_new_tokens=2),
    }[measuring]()
    assert asked == [(steering.model, torch.float32)]


def test_what_was_measured_before_a_set_was_changed_is_not_taken_for_the_set(loaded, steering, run):
    model, saes = loaded
    task = get_task("sentiment")
    evaluate_set(steering, task, limit=LIMIT, control_count=1, model=model, saes=saes)
    changed = steering.with_rows([replace(steering.rows[0], coefficient=40.0), *steering.rows[1:]])
    assert changed.content != steering.content
    stored_run.keep_set(run, changed)
    (row,) = measurements.evaluations(run).itertuples()
    assert row.label == f"A (before it was changed, {steering.content})"
    found = evaluate_set(changed, task, limit=LIMIT - 2, model=model, saes=saes)
    new, old = measurements.evaluations(run).itertuples()
    assert (new.label, new.content, new.n) == ("A", changed.content, LIMIT - 2)
    assert (old.label, old.content, old.n) == (row.label, steering.content, LIMIT)
    kept = measurements.evaluated_samples(run, "A", "sentiment", "test", 1.0)
    assert kept["steered"].tolist() == found.samples["steered"].tolist()
    assert len(measurements.evaluated_samples(run, "A", "sentiment", "test", 1.0, content=steering.content)) == LIMIT


def test_what_a_set_is_does_not_depend_on_its_name_notes_scale_or_switched_off_rows(steering):
    off = replace(steering.rows[0], feature=9, enabled=False)
    other = steering.with_rows([*(replace(row, note="") for row in reversed(steering.rows)), off], "B").scaled(2.0)
    assert other.content == steering.content
    assert (-steering).content == steering.content
    assert replace(steering, style=PromptStyle(chat=True)).content != steering.content


def test_the_headline_is_of_the_sets_own_scale_and_of_most_samples(loaded, steering, run):
    model, saes = loaded
    best = replace(steering, name="V")
    stored_run.keep_set(run, best, "V")
    evaluate_set(best, get_task("sentiment"), limit=LIMIT, model=model, saes=saes)
    sweep(best, [get_task("sentiment")], (1.0,), limit=LIMIT - 2, model=model, saes=saes)
    sweep(best, [get_task("sentiment")], (2.0,), limit=LIMIT + 2, model=model, saes=saes)
    reported = run_facts.headline(run)
    assert reported is not None
    assert (reported["scale"], reported["n"]) == (1.0, LIMIT)
    assert report_contents.contents(run)["main"].summary == reported
    stored_run.keep_set(run, best.with_rows(best.rows[:1]), "V")
    assert run_facts.headline(run) is None, "V as it is now was not measured"


def test_transfer_measures_every_set_on_every_task(loaded, steering):
    model, saes = loaded
    other = replace(steering.with_rows(steering.rows[:1], "first row"), task="capitals")
    tasks = [get_task("sentiment"), get_task("capitals")]
    found = transfer([steering, other], tasks, limit=LIMIT, model=model)
    assert [(one.name, one.task) for one in found] == [
        ("A", "sentiment"), ("first row", "sentiment"), ("A", "capitals"), ("first row", "capitals"),
    ]  # fmt: skip
    for one in found:
        steered = {"A": steering, "first row": other}[one.name]
        alone = evaluate_set(steered, get_task(one.task), limit=LIMIT, model=model, saes=saes)
        assert one.comparison == alone.comparison


def test_progress_is_one_bar_that_never_goes_back(loaded, steering):
    model, saes = loaded
    tasks = [get_task("sentiment"), get_task("capitals")]
    chatty = replace(steering, name="chat", style=PromptStyle(chat=True))
    ways = (
        lambda reported: evaluate_set(
            steering, tasks[1], limit=5, control_count=1, model=model, saes=saes, progress=reported
        ),
        lambda reported: sweep(steering, tasks, (1.0, 2.0), limit=5, model=model, saes=saes, progress=reported),
        lambda reported: transfer([steering, chatty], tasks, limit=5, model=model, progress=reported),
    )
    for way in ways:
        reported = []
        way(lambda stage, done, total, reported=reported: reported.append((stage, done / total)))
        assert {stage for stage, _ in reported} == {"measuring"}
        shares = [share for _, share in reported]
        assert shares == sorted(shares)
        assert shares[-1] == 1


def test_each_set_is_measured_with_its_own_prompt_on_its_own_task(loaded, steering):
    model, _ = loaded
    chatty = replace(steering, name="chat", style=PromptStyle(chat=True))
    plain, chat = transfer([steering, chatty], [get_task("sentiment")], limit=LIMIT, model=model)
    assert plain.samples["unsteered"].tolist() != chat.samples["unsteered"].tolist()


def test_constrained_decoding_takes_the_best_choice(loaded, steering):
    """A gain that holding the model to the choices would give is no gain of steering."""
    model, saes = loaded
    task = get_task("capitals")
    steering = replace(steering, task="")
    found = evaluate_set(steering, task, limit=LIMIT, control_count=1, model=model, saes=saes)
    items = limited([item for item in load_items(task) if item.split == "test"], LIMIT, 0)
    right = []
    for item in items:
        ids = render(model, item.prompt, PromptStyle(chat=True))
        with torch.inference_mode():
            logits = model.net(torch.tensor([ids])).logits[0, -1]
        allowed = choice_tokens(model, item.choices)
        text = model.tokenizer.decode([allowed[int(logits[allowed].argmax())]])
        right.append(task.scorer(text, item))
    constrained = found.constrained[CONSTRAINED]
    assert constrained.steered_rate == pytest.approx(np.mean(right))
    assert constrained.unsteered_rate == found.comparison.unsteered_rate
    assert set(found.constrained) == {CONSTRAINED, CONSTRAINED_STEERED}
    free = found.samples.set_index("sample")["outcome_steered"].loc[[item.id for item in items]].to_numpy()
    won, lost = int((free > right).sum()), int((free < right).sum())
    beside = found.against[CONSTRAINED]
    assert beside.difference == pytest.approx(np.mean(free) - np.mean(right))
    assert beside.p == pytest.approx(scipy_stats.binomtest(won, won + lost).pvalue if won + lost else 1.0)


def test_choices_are_allowed_with_and_without_a_space(loaded):
    model, _ = loaded
    encode = model.tokenizer.encode
    every = [encode(form, add_special_tokens=False) for form in ("A", " A", "B", " B")]
    assert choice_tokens(model, ("A", "B")) == sorted({ids[0] for ids in every if len(ids) == 1})


def test_choices_that_take_several_tokens_are_not_held_to_their_first(loaded):
    model, _ = loaded
    assert choice_tokens(model, ("New York", "New Delhi")) == []
    assert choice_tokens(model, ("", "A")) == []


def test_a_gain_that_constrained_decoding_gives_is_no_better_than_controls():
    summary = {
        "n": 100, "unsteered_rate": 0.4, "steered_rate": 0.6, "p": 1e-4, "positive_flips": 22, "negative_flips": 2,
        "controls": {"random 1": {"effect": 0.01}}, "constrained": {CONSTRAINED: {"effect": 0.2}}, "chosen_on": False,
    }  # fmt: skip
    assert verdict(summary).kind == "no better"
    summary["constrained"][CONSTRAINED]["effect"] = 0.1
    assert verdict(summary).kind == "works"


# --- lengths, intervals, convergence, the baseline without SAE -------------------------------------


def last_residuals(model, point, prompts):
    """Activations at the last prompt token, one prompt at a time."""
    return torch.stack([activations_at(model, point, ids)[-1].double() for ids in prompts])


def test_stream_lengths_are_mean_norms_at_the_last_prompt_token(loaded):
    model, saes = loaded
    prompts = [render(model, text, PromptStyle()) for text in ("One", "Another prompt, longer", "Third " * 9)]
    found = activation_lengths.stream_lengths(model, [sae.point for sae in saes], prompts)
    for sae in saes:
        norms = last_residuals(model, sae.point, prompts).norm(dim=-1)
        assert found[sae.point] == pytest.approx(norms.mean().item(), rel=1e-5)


def test_shares_are_vector_length_over_activation_length(loaded, run):
    model, saes = loaded
    setup = run_setup.reopen(run, model)
    features = candidates.rankable_features(run)
    effects = candidates.try_candidates(run, per_layer=2, scales=(2.0, 4.0), longest=np.inf, setup=setup)
    assert len(effects) == 2 * len(saes) * 2
    streams = activation_lengths.stream_lengths(model, [sae.point for sae in saes], [
        render(model, item.prompt, setup.config.style) for item in setup.items if item.split != "test"
    ])  # fmt: skip
    for row in effects.itertuples():
        sae = next(sae for sae in saes if sae.layer == row.layer)
        c = features.query("layer == @row.layer and feature == @row.feature")["coefficient"].iloc[0]
        expected = (row.scale * c * sae.directions([row.feature])[0]).norm().item() / streams[sae.point]
        assert row.share == pytest.approx(expected, rel=1e-5)
    kept = candidates.try_candidates(
        run, per_layer=2, scales=(2.0, 4.0), longest=effects["share"].median(), setup=setup
    )
    assert kept["share"].max() <= effects["share"].median()
    assert set(kept["scale"]) - {2.0, 4.0}, "those too long are tried at the longest length"
    assert kept["share"].max() > 0.9 * effects["share"].median()


def test_what_was_tried_with_another_coefficient_is_tried_again(loaded, run):
    """Collecting more samples and fitting anew moves coefficients."""
    setup = run_setup.reopen(run, loaded[0])
    features = candidates.rankable_features(run)
    asked = {"per_layer": 1, "scales": (1.0,), "longest": np.inf, "setup": setup}
    before = candidates.try_candidates(run, features=features, **asked)
    again = candidates.try_candidates(run, features=features.assign(coefficient=features["coefficient"] * 2), **asked)
    assert again["coefficient"].tolist() == pytest.approx((2 * before["coefficient"]).tolist())
    assert again["share"].tolist() == pytest.approx((2 * before["share"]).tolist())
    assert len(feature_lists.effects(run)) == len(before)


def test_a_v_of_other_lengths_or_scales_has_another_name(loaded, run):
    setup = run_setup.reopen(run, loaded[0])
    names = [
        selecting.select(run, "V", per_layer=1, setup=setup, **named).name
        for named in ({}, {"longest": 0.12}, {"scales": (1.0, 3.0)})
    ]
    assert names == ["V, top 1", "V, top 1, up to 12%", "V, top 1, scales 1 3"]
    assert set(names) <= set(stored_run.kept_sets(run))


def test_intervals_hold_r_and_differ_from_a_point(run):
    top = stored_run.features_of(run).dropna(subset="r").head(6).reset_index(drop=True)
    found = reliability.intervals(run, top, resamples=200)
    assert (found["r_low"] < found["r"]).all()
    assert (found["r"] < found["r_high"]).all()
    assert (found["coefficient_low"] <= found["coefficient"]).all()
    assert (found["coefficient"] <= found["coefficient_high"]).all()


def test_intervals_agree_with_scipys_bootstrap(run):
    from scipy import stats as scipy_stats

    top = stored_run.features_of(run).dropna(subset="r").head(1).reset_index(drop=True)
    layer, feature = int(top["layer"][0]), int(top["feature"][0])
    values = feature_facts.pooled_values(run, layer, feature)
    data = (values["value"].to_numpy(float), values["outcome"].to_numpy(float))
    expected = scipy_stats.bootstrap(
        data, lambda z, y: scipy_stats.pearsonr(z, y).statistic, paired=True, vectorized=False, n_resamples=2000,
        method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    found = reliability.intervals(run, top, resamples=2000).iloc[0]
    assert found["r_low"] == pytest.approx(expected.low, abs=0.06)
    assert found["r_high"] == pytest.approx(expected.high, abs=0.06)


def test_convergence_ends_in_full_agreement(run):
    found = reliability.convergence(run, top=5)
    assert found["overlap"].iloc[-1] == 1.0
    assert found["best_r"].iloc[-1] == pytest.approx(
        stored_run.features_of(run).query("support >= @stored_run.fit_summary(@run)['floor']")["r"].max()
    )
    assert found["size"].is_monotonic_increasing


def test_the_rounds_of_v_are_one_bar_that_never_goes_back(loaded, run, monkeypatch):
    """At most one round for every layer that helps but the first; how many there will be nobody knows before."""
    setup = run_setup.reopen(run, loaded[0])
    tried = pd.DataFrame({
        "layer": [1, 2, 3, 4], "feature": 0, "r": 0.2, "coefficient": 1.0, "scale": 1.0, "unsteered_rate": 0.5,
        "steered_rate": 0.6, "positive_flips": 9, "negative_flips": 0, "p": 0.01, "n": 3, "outcomes": None,
        "unsteered_outcomes": None,
    })  # fmt: skip
    reported = []

    def round_of(setup, base, groups, stage, progress):
        for done in (0, 5, 10):
            progress(stage, done, 10)
        return Tried(np.zeros((3, 2)), np.zeros((3, 2)))

    monkeypatch.setattr(selecting, "try_candidates", lambda *_, **__: tried)
    monkeypatch.setattr(selecting, "try_groups", round_of)
    monkeypatch.setattr(selecting.strategies, "grown", lambda _, measure: [measure([]) for _ in range(3)] and [])
    selecting.select(run, "V", objective="rate", setup=setup, progress=lambda *one: reported.append(one))
    assert reported == [("adding layers", done, 1000) for done in (0, 167, 333, 333, 500, 667, 667, 833, 1000)]


def test_convergence_holds_one_layer_at_a_time(run, monkeypatch):
    alive: list[weakref.ref] = []
    most = 0
    real = reliability.training_activations

    def reading(*asked):
        nonlocal most
        found = real(*asked)
        alive.append(weakref.ref(found))
        most = max(most, sum(one() is not None for one in alive))
        return found

    whole = reliability.convergence(run, top=5)
    monkeypatch.setattr(reliability, "training_activations", reading)
    pd.testing.assert_frame_equal(reliability.convergence(run, top=5), whole)
    assert len(alive) >= 2
    assert most == 1


def test_fluency_is_measured_in_halves_where_memory_does_not_hold_a_batch(loaded, monkeypatch):
    model, _ = loaded
    prompts = [render(model, "A prompt " * (1 + place), PromptStyle()) for place in range(5)]
    outputs = [[[7, 9, 11], [place + 3], []] for place in range(5)]
    whole = fluency(model, prompts, outputs)
    asked = []
    real = fluency_of.continuation_nll

    def little_memory(model, some, outputs):
        asked.append(len(some))
        if len(some) > 2:
            raise torch.OutOfMemoryError("full")
        return real(model, some, outputs)

    monkeypatch.setattr(fluency_of, "continuation_nll", little_memory)
    np.testing.assert_allclose(fluency(model, prompts, outputs), whole, atol=1e-5)
    assert max(asked) == 5


def test_fluency_holds_no_more_keys_than_answering_does(loaded, monkeypatch):
    model, _ = loaded
    prompts = [render(model, "A prompt", PromptStyle())] * 8
    outputs = [[[token, 5] for token in range(3, 11)]] * 8
    whole = fluency(model, prompts, outputs)
    longest = len(prompts[0]) + 2
    monkeypatch.setattr(limits, "LIMITS", {model.device.type: limits.Limits(64, 64, 6 * longest)})
    rows = []
    real = fluency_of.continued
    monkeypatch.setattr(fluency_of, "continued", lambda *asked: rows.append(len(asked[2])) or real(*asked))
    np.testing.assert_allclose(fluency(model, prompts, outputs), whole, atol=1e-5)
    assert sum(rows) == 64
    assert max(rows) == 6


def test_another_ranking_lists_its_own_scores(run):
    found = candidates.scores(run, "difference_of_means")
    row = found.dropna().iloc[3]
    values = feature_facts.pooled_values(run, int(row["layer"]), int(row["feature"]))
    right = values["outcome"] > 0.5
    expected = values.loc[right, "value"].mean() - values.loc[~right, "value"].mean()
    assert row["score"] == pytest.approx(expected)
    with pytest.raises(CorrSteerError, match="known are pearson_r"):
        candidates.scores(run, "guess")
    from corrsteer_core.cli.arguments import DEFAULT_LONGEST
    from corrsteer_core.runs.strategies import LONGEST

    assert DEFAULT_LONGEST == LONGEST


def test_the_difference_vector_is_the_difference_of_means(loaded):
    model, saes = loaded
    texts = ["One", "Another prompt, longer", "Third " * 9, "Fourth", "And a fifth one"]
    prompts = [render(model, text, PromptStyle()) for text in texts]
    outcomes = np.array([1.0, 0.0, 1.0, 0.0, 0.0])
    points = [sae.point for sae in saes]
    found = difference_baseline.difference_vectors(model, points, prompts, outcomes, max_new_tokens=1)
    for point in points:
        residuals = last_residuals(model, point, prompts)
        expected = residuals[outcomes > 0.5].mean(0) - residuals[outcomes <= 0.5].mean(0)
        torch.testing.assert_close(found[point].double(), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(CorrSteerError, match="one side"):
        difference_baseline.difference_vectors(model, points, prompts, np.ones(5), max_new_tokens=1)


def test_the_baseline_is_chosen_on_validation_and_measured_on_test(loaded, run):
    model, _ = loaded
    setup = run_setup.reopen(run, model)
    found = difference_baseline.baseline(setup, longest=np.inf)
    tried = found["tried"]
    assert set(tried["layer"]) == set(tiny.LAYERS)
    raises = tried[(tried["steered_rate"] > tried["unsteered_rate"]) & (tried["p"] < 0.1)]
    assert (found["chosen"] is None) == raises.empty
    assert (found["measured"] is None) == (found["chosen"] is None)
    items = [item for item in setup.items if item.split == "validation"]
    unsteered = trial(
        model, items, unsteered_and(), style=setup.config.style, scorer=setup.task.scorer, max_new_tokens=6
    )
    assert tried["unsteered_rate"].unique().tolist() == pytest.approx([unsteered.outcomes.mean()])


def test_progress_moves_within_a_batch(loaded, run):
    model, _ = loaded
    setup = run_setup.reopen(run, model)
    reported = []
    style, scorer = setup.config.style, setup.task.scorer
    trial(
        model, setup.items, unsteered_and(), style=style, scorer=scorer, max_new_tokens=6,
        progress=lambda stage, done, total: reported.append(done),
    )  # fmt: skip
    assert len(setup.items) < 64  # one batch
    assert len(set(reported)) > 4
    assert reported == sorted(reported)
    assert (reported[0], reported[-1]) == (0, len(setup.items))


def test_the_baselines_rate_stands_beside_its_fluency(loaded, run, monkeypatch):
    model, _ = loaded
    monkeypatch.setattr(difference_baseline.strategies, "beyond_noise", lambda effects: effects)
    monkeypatch.setattr(difference_baseline, "corrected_p", lambda before, after: np.zeros(after.shape[1]))
    setup = run_setup.reopen(run, model)
    found = difference_baseline.baseline(setup, longest=np.inf)
    items = [item for item in setup.items if item.split == "test"]
    texts = trial(model, items, unsteered_and(), style=setup.config.style, scorer=setup.task.scorer, max_new_tokens=6)
    prompts = [render(model, item.prompt, setup.config.style) for item in items]
    expected = np.nanmean(fluency(model, prompts, texts.tokens))
    assert found["measured"]["n"] == len(items)
    assert found["measured"]["fluency"]["unsteered"] == pytest.approx(expected, rel=1e-5)
    assert found["measured"]["fluency"]["steered"] > 0


def test_an_evaluation_without_a_finite_fluency_is_stored_all_the_same(loaded, steering, run):
    model, saes = loaded
    with reading.Reader(run) as opened:
        assert len(opened.query("SELECT * FROM evaluations")) == 0
    evaluate_set(steering, get_task("sentiment"), limit=2, model=model, saes=saes)
    with reading.Reader(run) as opened:
        (summary,) = opened.query("SELECT summary FROM evaluations")["summary"]
    assert json.loads(summary)["set"] == "A"
