"""V by what is left beyond the prior, how surely it was chosen, and the same choice among random features."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.class_probabilities import class_tokens, log_probabilities
from corrsteer_core.engine.generation import UNSTEERED
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.evaluation import controls
from corrsteer_core.evaluation.class_view import answered_classes, class_view, likely_classes, tokens_of
from corrsteer_core.evaluation.exam import exam_for
from corrsteer_core.evaluation.measure import evaluate_set, evaluate_sets
from corrsteer_core.evaluation.prior import fit_offsets
from corrsteer_core.method import candidates, collecting, matched, run_setup, selecting, validation
from corrsteer_core.method.candidates import try_candidates
from corrsteer_core.method.evaluating import evaluate
from corrsteer_core.method.stability import best_above, stability
from corrsteer_core.models.prompts import render
from corrsteer_core.reporting.prior_words import prior_words
from corrsteer_core.reporting.rate_rows import BEYOND
from corrsteer_core.reporting.rival_groups import caveats, missing_controls
from corrsteer_core.reporting.verdict import verdict
from corrsteer_core.runs import stored_run, strategies
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.statistics import rates
from corrsteer_core.statistics.best_of_many import best_of_many
from corrsteer_core.statistics.clusters import clustered_change
from corrsteer_core.statistics.offset import fit_offset
from corrsteer_core.storage.reading import query
from corrsteer_core.storage.writing import Writer
from corrsteer_core.tasks import custom_task, get_task
from tests.made import runs as tiny

LIMIT = 80


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch, request):
    monkeypatch.setenv("CORRSTEER_CACHE", str(request.getfixturevalue("folder")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def setup(folder):
    """A run of a task of letters, whose answers a random model gives and whose outcomes are drawn: all else is real."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CORRSTEER_CACHE", str(folder))
        model, saes = tiny.load()
        sources = [sae.source for sae in saes]
        made = run_setup.set_up(
            get_task("capitals"), model=model, sae=sources, limit=LIMIT, max_new_tokens=1, chat=False
        )
        collecting.collect(made)
        with Writer(made.run) as store:
            store.connection.execute("UPDATE samples SET outcome = hash(sample) % 2")
        collecting.refit(made.run)
    return made


def test_class_probabilities_are_sums_of_the_softmax():
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)) * 3
    classes = ((3, 7), (11,), ())
    found = log_probabilities(logits, classes)
    p = logits.double().softmax(-1)
    named = torch.stack([p[:, [3, 7]].sum(-1), p[:, 11]], -1)
    expected = torch.cat([named, 1 - named.sum(-1, keepdim=True)], -1).log().numpy()
    assert found == pytest.approx(expected, abs=1e-6)


def test_classes_that_share_their_tokens_or_take_several_have_none():
    model, _ = tiny.load()
    assert [len(ids) for ids in class_tokens(model, ("A", "B"))] == [1, 1]
    assert class_tokens(model, ("A", "A")) == ()
    assert class_tokens(model, ("yes", "no")) == (), "several bytes each"
    assert class_tokens(model, ("A", " ")) == ()


def test_classes_are_read_at_the_first_generation_position(setup):
    items = validation.validation_items(setup)[:6]
    prompts = [render(setup.model, item.prompt, setup.config.style) for item in items]
    asked = tokens_of(setup.model, setup.task, items)
    found = {}
    for batch in answers(setup.model, prompts, max_new_tokens=2, variants=[UNSTEERED, UNSTEERED], classes=asked):
        found.update(zip(batch.prompts, batch.class_logp, strict=True))
    for place, (ids, classes) in enumerate(zip(prompts, asked, strict=True)):
        with torch.inference_mode():
            last = setup.model.net(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
        expected = [last[list(tokens)].logsumexp(-1).item() for tokens in classes]
        assert found[place] == pytest.approx(np.array([expected, expected]), abs=1e-4)


def test_effects_hold_both_objectives_and_every_outcome(setup):
    tried = try_candidates(setup.run, per_layer=2, scales=(4.0, 8.0), longest=np.inf, setup=setup)
    items = validation.validation_items(setup)
    view = None
    for row in tried.itertuples():
        vectors = vectors_of(validation.empty_of(setup).with_rows([strategies.as_row(row)]), setup.saes)
        view = likely_classes(setup.model, setup.task, items, [UNSTEERED, vectors], setup.config.style)
        right = [
            (view.logp[:, place] + fit_offset(view.logp[:, place], view.right)).argmax(-1) == view.right
            for place in (0, 1)
        ]
        up, down = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
        assert (row.beyond_positive_flips, row.beyond_negative_flips) == (up, down)
        assert row.beyond_p == pytest.approx(rates.mcnemar_p(up, down))
        assert strategies.outcomes_of(row.beyond_outcomes, row.n).tolist() == right[1].tolist()
        assert strategies.outcomes_of(row.outcomes, row.n).mean() == pytest.approx(row.steered_rate)
    judged = validation.judged_by(tried, "beyond_prior")
    assert (judged["steered_rate"] == tried["beyond_steered_rate"]).all()
    assert (judged["outcomes"] == tried["beyond_outcomes"]).all()


def test_the_objective_is_the_gain_beyond_the_prior_where_there_are_classes(setup):
    assert validation.default_objective(setup) == "beyond_prior"
    chosen = selecting.select(setup.run, "V", per_layer=1, scales=(8.0,), setup=setup)
    about = stored_run.selection_of(setup.run, chosen.content)
    assert (about["strategy"], about["objective"], about["scales"]) == ("V", "beyond_prior", [8.0])
    by_rate = selecting.select(setup.run, "V", per_layer=1, scales=(8.0,), objective="rate", setup=setup)
    assert by_rate.name == "V, top 1, by rate, scales 8"
    assert selecting.select(setup.run, "V", objective="rate", setup=setup).name == strategies.BY_RATE


def test_without_classes_there_is_nothing_to_choose_by_beyond_the_prior():
    with pytest.raises(CorrSteerError, match="--objective rate"):
        validation.Tried(np.zeros((3, 2)), None).by("beyond_prior")


def test_the_best_beyond_noise_and_how_surely_it_is():
    unsteered = np.array([0.0] * 30 + [1.0] * 30)
    good, noise = unsteered.copy(), unsteered.copy()
    good[:14] = 1
    noise[:2] = 1
    noise[40:42] = 0
    critical = best_of_many(unsteered, np.stack([noise, good], 1)).critical()
    assert best_above(critical)(unsteered, np.stack([noise, good], 1)) == 1
    assert best_above(critical)(unsteered, noise[:, None]) is None
    frame = validation.effect_rows(
        validation.pd.DataFrame({"layer": [1, 2], "feature": [5, 6], "scale": [1.0, 2.0], "frequency": [0.5, 0.1]}),
        validation.Tried(np.stack([unsteered, noise, good], 1), None),
    )
    found = stability(frame)
    assert found["chosen"][0]["feature"] == 6
    assert found["chosen"][0]["share"] > 0.9
    assert found["apparent_effect"] == pytest.approx(14 / 60)
    assert found["corrected_effect"] == pytest.approx(14 / 60, abs=0.02)


def test_of_what_cannot_be_told_from_the_best_the_shortest_vector_is_taken():
    unsteered = np.zeros(60)
    best, close, worse = (np.array([1.0] * n + [0.0] * (60 - n)) for n in (20, 19, 8))
    tried = validation.effect_rows(
        validation.pd.DataFrame(
            {
                "layer": [1, 1, 1],
                "feature": [1, 2, 3],
                "scale": 1.0,
                "coefficient": 1.0,
                "r": 0.1,
                "share": [0.05, 0.03, 0.01],
                "frequency": [0.2, 0.2, 0.2],
            }
        ),
        validation.Tried(np.stack([unsteered, best, close, worse], 1), None),
    )
    (row,) = strategies.grown(tried, lambda groups: pytest.fail("there is no other layer"))
    assert row.feature == 2, "8 of 60 is worse than 20 of 60 beyond noise; 19 is not, and its vector is shorter"


def chosen_by_steering(setup):
    """A set that V would choose if something helped, kept with its run as V's."""
    rows = [strategies.SteeringRow(layer, 3, 2.0) for layer in tiny.LAYERS]
    steering = validation.empty_of(setup).with_rows(rows, "V")
    about = {"strategy": "V", "per_layer": 2, "scales": [8.0], "longest": 1e9, "ranking": "pearson_r",
             "negative": False, "objective": "rate"}  # fmt: skip
    stored_run.keep_set(setup.run, steering, "V", selection=about)
    return steering


def test_matched_sets_try_as_many_random_features_and_are_drawn_once(setup, monkeypatch):
    steering = chosen_by_steering(setup)
    asked = []
    real = validation.try_groups
    monkeypatch.setattr(validation, "try_groups", lambda *given: asked.append(given[2]) or real(*given))
    sets = matched.matched_sets(steering, draws=3, setup=setup)
    assert [one.name for one in sets] == ["matched 1", "matched 2", "matched 3"]
    best = {
        (row.layer, row.feature) for row in matched.rankable_features(setup.run).groupby("layer").head(2).itertuples()
    }
    assert len(asked) == 3
    for group in asked:
        drawn = [(rows[0].layer, rows[0].feature) for rows in group]
        assert len(drawn) == 2 * len(tiny.LAYERS)
        assert len({*drawn}) == len(drawn)
        assert not {*drawn} & best, "none of those of highest r"
    again = len(asked)
    assert matched.matched_sets(steering, draws=3, setup=setup) == sets
    assert len(asked) == again, "what was drawn is kept"
    assert len(query(setup.run, "SELECT * FROM matched WHERE content = ?", [steering.content])) == 3


def test_matched_sets_stand_for_every_feature_that_was_tried_also_for_those_by_prediction(setup, monkeypatch):
    """V tries the best by r and the best by prediction: the control has as many to choose from, added or subtracted alike."""
    features = stored_run.features_of(setup.run).sort_values(["layer", "feature"])
    listed = [[layer, feature, sign] for layer in tiny.LAYERS for feature, sign in ((3, 1), (7, 1), (11, -1), (12, 1))]
    rows = [strategies.SteeringRow(layer, 3, 2.5) for layer in tiny.LAYERS]
    steering = validation.empty_of(setup).with_rows(rows, "V")
    about = {"strategy": "V", "per_layer": 1, "scales": [8.0], "longest": 1e9, "ranking": "pearson_r",
             "negative": False, "objective": "rate", "listed": listed}  # fmt: skip
    stored_run.keep_set(setup.run, steering, "V", selection=about)
    asked = []
    real = validation.try_groups
    monkeypatch.setattr(validation, "try_groups", lambda *given: asked.append(given[2]) or real(*given))
    matched.matched_sets(steering, draws=1, setup=setup)
    drawn = [rows[0] for rows in asked[0]]
    assert len(drawn) == len(listed) > 2 * len(tiny.LAYERS) * about["per_layer"]
    known = features.set_index(["layer", "feature"])
    floor = int(stored_run.fit_summary(setup.run)["floor"])
    for (layer, feature, sign), row in zip(listed, drawn, strict=True):
        assert (row.layer, np.sign(row.coefficient)) == (layer, sign)
        assert known.loc[(row.layer, row.feature), "support"] >= floor
        assert [row.layer, row.feature] not in [one[:2] for one in listed]
        free = known.loc[layer][lambda of: (of["support"] >= floor) & (of["coefficient"] > 0)]
        off = (free["frequency"] - known.loc[(layer, feature), "frequency"]).abs()
        within = off.drop([one[1] for one in listed], errors="ignore") <= controls.TOLERANCE
        if within.sum() >= len(listed):
            assert off[row.feature] <= controls.TOLERANCE


def test_what_was_tried_is_kept_with_the_set(setup):
    chosen = selecting.select(setup.run, "V", per_layer=2, scales=(4.0, 8.0), setup=setup)
    stored = query(setup.run, "SELECT selection FROM sets WHERE name = ?", [chosen.name])  # empty sets are all alike
    about = json.loads(stored["selection"][0])
    ranked = candidates.rankable_features(setup.run)
    expected = candidates.listed_for_v(setup.run, ranked, per_layer=2, objective=about["objective"])
    assert {tuple(one) for one in about["listed"]} == {(row.layer, row.feature, 1) for row in expected.itertuples()}


def test_p_tries_no_longer_vectors_than_v(setup):
    ranked = candidates.rankable_features(setup.run)
    at_one = candidates.with_shares(setup, strategies.candidates(ranked, 1, (1.0,)))
    longest = float(at_one["share"].max()) / 2
    tried = candidates.try_layers(ranked, 1, setup, longest=longest)
    assert (tried["share"] <= longest + 1e-12).all()
    assert (tried["scale"] <= 1).all()
    assert tried["scale"].min() < 1
    known = candidates.known_of_layers(setup.run, ranked, 1, longest)
    columns = ["layer", "feature", "scale", "p", "steered_rate"]
    assert known[columns].sort_values(columns).values.tolist() == tried[columns].sort_values(columns).values.tolist()


@pytest.mark.parametrize("objective", [None, "rate", "beyond_prior"])
def test_what_p_saw_is_told_by_the_objective_that_it_chose_by(setup, objective):
    chosen = selecting.select(setup.run, "P", setup=setup, objective=objective)
    seen = selecting.seen_by_p(setup.run, objective=objective)
    assert set(seen["objective"]) == {objective or "beyond_prior"}
    assert seen[seen["kept"]]["layer"].tolist() == [row.layer for row in chosen.rows]


def test_a_set_made_by_hand_has_no_matched_control(setup):
    rows = [strategies.SteeringRow(1, 9, 2.5)]
    assert matched.matched_sets(validation.empty_of(setup).with_rows(rows, "mine"), setup=setup) == []


def test_a_measurement_names_offset_gain_beyond_it_and_classes(setup):
    steering = chosen_by_steering(setup).scaled(20.0)
    task = get_task("capitals")
    found = evaluate(steering, task, control_count=2, matched=2, model=setup.model, saes=setup.saes)
    summary = found.summary()
    exam = exam_for(steering, task, setup.model, split="test")
    variants = [UNSTEERED, vectors_of(steering, setup.saes)]
    held = likely_classes(setup.model, exam.task, list(exam.validation), variants, exam.style)
    test = likely_classes(setup.model, exam.task, exam.items, variants, exam.style)
    right = [
        (test.logp[:, place] + fit_offset(held.logp[:, place], held.right)).argmax(-1) == test.right for place in (0, 1)
    ]
    assert summary["offset"]["rate"] == pytest.approx(right[0].mean())
    assert summary["offset"]["effect"] == pytest.approx(right[0].mean() - found.comparison.unsteered_rate)
    assert summary["beyond_prior"]["effect"] == pytest.approx(right[1].mean() - right[0].mean())
    up, down = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    assert (summary["beyond_prior"]["positive_flips"], summary["beyond_prior"]["negative_flips"]) == (up, down)
    assert {row["class"] for row in summary["classes"]} == set("ABCD")
    assert sum(row["n"] for row in summary["classes"]) == summary["n"]
    assert set(summary["matched"]) == {"matched 1", "matched 2"}
    assert set(summary["against"]) == {*summary["controls"], *summary["matched"], "constrained"}
    limited = summary["effect"] - summary["constrained"]["constrained"]["effect"]
    assert summary["against"]["constrained"]["difference"] == pytest.approx(limited)
    assert summary["strategy"] == "V"
    random = [summary["against"][f"random {number}"]["difference"] for number in (1, 2)]
    assert summary["permutation_p"] == pytest.approx((1 + sum(one <= 1e-12 for one in random)) / 3)
    frequency = stored_run.features_of(setup.run).set_index(["layer", "feature"])["frequency"]
    assert summary["frequencies"][""] == [frequency[layer, 3] for layer in tiny.LAYERS]
    assert set(summary["frequencies"]) == {"", *summary["against"]} - {"unigram", "constrained"}
    assert not {item.prompt for item in exam.validation} & {item.prompt for item in exam.items}


def measured_on(setup, steering, exam):
    return evaluate_sets([steering], exam, setup.model, setup.saes, control_count=1)[0]


def test_choices_may_stand_in_another_order_and_a_class_may_be_in_one_split_alone(setup):
    steering = chosen_by_steering(setup).scaled(20.0)
    exam = exam_for(steering, get_task("capitals"), setup.model, split="test")
    plain = measured_on(setup, steering, exam).summary()
    turned = [replace(item, choices=item.choices[::-1]) for item in exam.items]
    found = measured_on(setup, steering, replace(exam, items=turned)).summary()
    assert found["beyond_prior"] == plain["beyond_prior"]
    assert found["auc"]["steered"] == pytest.approx(plain["auc"]["steered"])
    assert found["offset"]["bias"] == pytest.approx(plain["offset"]["bias"])
    right = [item for item in exam.items if item.target == "A"]
    of_one = measured_on(setup, steering, replace(exam, items=right))
    assert of_one.prior.beyond.flips.n == len(right), (
        "the constants are of the validation samples, whatever is asked here"
    )
    assert [row["class"] for row in of_one.summary()["classes"] if row["n"]] == ["A"]
    assert all("nan" not in words for words in (str(of_one.verdict), str(prior_words(of_one.summary()))))
    without_d = [item for item in exam.validation if item.target != "D"]
    shorter = tuple(replace(item, choices=item.choices[:3]) for item in without_d)
    unseen = measured_on(setup, steering, replace(exam, validation=shorter))
    assert set(unseen.prior.unsteered_offset.names) == set("ABCD")


def test_where_no_constants_can_be_fitted_it_is_said_and_nothing_is_said_to_work(setup):
    steering = chosen_by_steering(setup).scaled(20.0)
    exam = exam_for(steering, get_task("capitals"), setup.model, split="test")
    found = measured_on(setup, steering, replace(exam, validation=()))
    assert found.prior is None
    assert "unigram" not in found.controls
    assert {one.rival for one in found.left_out} == {BEYOND, "unigram"}
    assert all("no validation samples" in one.why for one in found.left_out)
    said = missing_controls(found.summary())
    assert f"Not measured: {BEYOND}. There are no validation samples to fit the constants on" in said
    won = found.summary() | {
        "unsteered_rate": 0.5,
        "steered_rate": 0.8,
        "p": 0.001,
        "positive_flips": 9,
        "negative_flips": 0,
    }
    won |= {"strategy": "", "chosen_on": False, "against": {}, "constrained": {}}
    won["controls"] = {name: one | {"effect": 0.0} for name, one in won["controls"].items()}
    assert verdict(won).kind == "uncontrolled"
    assert "it could not be measured whether one constant per class does as much" in verdict(won).sentence
    assert verdict({name: one for name, one in won.items() if name != "classes"}).kind == "works"
    same = tuple(item for item in exam.validation if item.target == "A")
    (of_one, *_) = measured_on(setup, steering, replace(exam, validation=same)).left_out
    assert "the same class is right" in of_one.why


def test_samples_that_the_run_fitted_on_are_no_evidence_under_another_tasks_name(setup, tmp_path):
    rows = [
        {"prompt": item.prompt, "target": item.target, "choices": item.choices, "split": "test"} for item in setup.items
    ]
    data = tmp_path / "renamed.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    steering, other = chosen_by_steering(setup), custom_task("letter", data, max_new_tokens=1, chat=False)
    for split in ("train", "validation", "test"):
        exam = exam_for(steering, other, setup.model, split=split)
        assert exam.chosen_on == (split != "test")
        assert {item.prompt for item in exam.items} == {item.prompt for item in setup.items if item.split == split}


def test_samples_in_clusters_are_tested_by_cluster(setup, tmp_path):
    """As BBQ's, made from templates: effect, what is left beyond the prior and every rival by cluster, and so it is said."""
    items = [item for item in setup.items if item.split != "train"]
    rows = [
        {
            "prompt": item.prompt,
            "target": item.target,
            "choices": item.choices,
            "split": item.split,
            "cluster": f"t{n % 5}",
        }
        for n, item in enumerate(items)
    ]
    data = tmp_path / "templates.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = custom_task("letter", data, max_new_tokens=1, chat=False)
    steering = replace(chosen_by_steering(setup).scaled(20.0), style=PromptStyle(chat=False))
    found = evaluate(steering, task, control_count=2, matched=0, model=setup.model, saes=setup.saes)
    summary, samples = found.summary(), found.samples
    names = [next(row["cluster"] for row in rows if row["prompt"] == prompt) for prompt in samples["prompt"]]
    assert (summary["test"], summary["clusters"]) == ("clusters", 5)
    raw = clustered_change(samples["outcome_unsteered"], samples["outcome_steered"], names, seed=0)
    beyond = clustered_change(samples["with_offset_unsteered"], samples["with_offset_steered"], names, seed=0)
    assert (summary["p"], summary["effect_interval"]) == (raw.p, raw.interval)
    assert (summary["beyond_prior"]["p"], summary["beyond_prior"]["interval"]) == (beyond.p, beyond.interval)
    assert "come in 5 clusters" in caveats(summary)


def test_what_is_measured_on_the_split_that_chose_is_marked(setup):
    steering = chosen_by_steering(setup)
    asked = {"model": setup.model, "saes": setup.saes, "limit": 8}
    assert evaluate_set(steering, get_task("capitals"), split="validation", **asked).summary()["chosen_on"]
    assert not evaluate_set(steering, get_task("capitals"), split="test", **asked).summary()["chosen_on"]
    assert not evaluate_set(steering, get_task("capitals"), split="shifted", **asked).summary()["chosen_on"]


def test_answers_are_read_by_the_tasks_own_scorer(setup):
    items = validation.validation_items(setup)[:3]
    assert answered_classes(setup.task, items, ["B", "(C)", "I do not know"], "ABCD").tolist() == [1, 2, -1]


def test_offsets_leave_no_class_out_that_some_samples_lack():
    task = get_task("mmlu")
    items = [
        strategies_item(place, names, names[place % len(names)]) for place, names in enumerate(["ABCD", "ABC", "ABCD"])
    ]
    logp = [np.log(np.full((1, len(item.choices)), 1 / len(item.choices))) for item in items]
    view = class_view(task, items, logp)
    assert view.names == tuple("ABCD")
    assert np.isneginf(view.logp[1, 0, 3])
    assert fit_offsets(view, view).right.shape == (3, 1)


def strategies_item(place: int, names: str, target: str):
    from corrsteer_core.tasks import Item

    return Item(str(place), "test", f"item {place}", target, tuple(names))


def test_styles_are_the_runs_own(setup):
    assert setup.config.style == PromptStyle(chat=False)


def test_a_strategy_that_chose_nothing_is_not_chosen_again_among_random_features(setup, monkeypatch):
    from corrsteer_core.method import evaluating

    nothing = validation.empty_of(setup)
    stored_run.keep_set(
        setup.run, nothing, "V", selection={"strategy": "V", "per_layer": 1, "scales": [1.0], "longest": 1.0}
    )
    monkeypatch.setattr(evaluating, "matched_sets", lambda *_, **__: pytest.fail("there is nothing to match"))
    found = evaluate(nothing, setup.task, control_count=2, limit=4, model=setup.model, saes=setup.saes)
    assert found.summary()["effect"] == 0
