"""Predicted effects: planted drivers that r cannot see, shift and tilt against measured margins, what is kept and when."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.cli.commands import runs as runs_commands
from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.gradients.following import Answer, answer_of
from corrsteer_core.engine.gradients.sums import ClassSums
from corrsteer_core.evaluation.class_view import likely_classes
from corrsteer_core.method import candidates, collecting, prediction, selecting, validation
from corrsteer_core.method.prediction import mean_gradients, predict
from corrsteer_core.method.run_setup import Setup
from corrsteer_core.models.prompts import render
from corrsteer_core.runs import feature_facts, feature_lists, measurements, predictions
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SteeringRow
from corrsteer_core.saes.sae import ref_of
from corrsteer_core.storage.writing import Writer
from corrsteer_core.tasks import Item, get_task
from tests.engine.test_gradients import difference, double, whole_logits
from tests.made import runs as tiny_run
from tests.made.models import random_sae, tiny

STYLE = PromptStyle(chat=False)
WORDS = ["a cat", "one two", "so it goes", "why not", "yes", "the end of it", "over there", "no", "well", "and so on"]
FIRING = range(200, 240)
CONSTANT, SILENT = (3, 4), (100, 101, 102)
DRIVERS = {*CONSTANT, *SILENT}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))


def made_setup(choices=("A", "B"), d_sae=48, count=20, answer="B", model=None):
    """A fitted run of made-up samples; features of FIRING (or all but 3, 4 and the last) fire at random, 3 and 4 always."""
    model = model or tiny("llama")
    saes = [random_sae(model, 1, d_sae=d_sae)]
    items = [
        Item(
            f"{n:03}", "train" if n < count else "validation", f"{WORDS[n % 10]} {n}", (choices or "AB")[n % 2], choices
        )
        for n in range(count + 4)
    ]
    config = RunConfig(
        "sentiment", model.name, model.fingerprint, "float32", tuple(map(ref_of, saes)), STYLE, max(1, len(answer))
    )
    setup = Setup(config.run_id(items), config, model, saes, get_task("sentiment"), items)
    rng = np.random.default_rng(1)
    z = np.zeros((len(items), d_sae))
    firing = list(FIRING) if d_sae > 240 else list(range(5, d_sae - 1))
    z[:, firing] = rng.uniform(0.5, 1, (len(items), len(firing))) * (rng.random((len(items), len(firing))) < 0.6)
    z[:, list(CONSTANT)] = 0.75
    rows, features = z.nonzero()
    outcomes = (rng.random(len(items)) < 0.5).astype(float)
    outcomes[:2] = 0.0, 1.0
    with Writer(setup.run) as store:
        store.begin(config, items, 8)
        store.add_batch(
            [item.id for item in items],
            [answer] * len(items),
            list(outcomes),
            [max(1, len(answer))] * len(items),
            {1: (rows, features, z[rows, features].astype(np.float32))},
        )
    collecting.refit(setup.run)
    return setup


def train(setup):
    return [item for item in setup.items if item.split == "train"]


def planted(setup, feature, direction):
    """Turn a feature's decoder direction, its length kept."""
    weights = setup.saes[0].net.W_dec.data
    weights[feature] = weights[feature].norm() * (direction / direction.norm()).float()


def test_drivers_among_10_000_directions_that_r_misses_are_found():
    setup = made_setup(d_sae=10_000)
    (sae,) = setup.saes
    sae.net.W_dec.data /= sae.net.W_dec.data.norm(dim=-1, keepdim=True)
    means = mean_gradients(setup)
    for feature in DRIVERS:
        planted(setup, feature, means.success[sae.point])
    predict(setup.run, setup=setup)
    assert not set(candidates.rankable_features(setup.run)["feature"]) & DRIVERS  # r is undefined: they never change
    best = candidates.rankable_features(setup.run, ranking=predictions.PREDICTED)
    assert set(best["feature"][:5]) == DRIVERS
    assert best["support"][:5].fillna(0).isin([0, 20]).all()
    # They do drive: steered a little, the right answer gains more by each of them than by any of the features that fired.
    rows = best.set_index("feature")
    tried = [*sorted(DRIVERS), *[feature for feature in FIRING if feature in rows.index]]
    vectors = [{sae.point: 0.2 * rows["coefficient"][feature] * sae.directions([feature])[0]} for feature in tried]
    view = likely_classes(setup.model, setup.task, train(setup), [{}, *vectors], STYLE)
    p = np.exp(view.logp - np.logaddexp.reduce(view.logp, axis=-1, keepdims=True))
    rate = p[np.arange(len(p)), :, view.right].mean(0)
    gain = rate[1:] - rate[0]
    assert gain[: len(DRIVERS)].min() > gain[len(DRIVERS) :].max() > 0
    chosen = selecting.select(setup.run, "S", ranking=predictions.PREDICTED)
    assert chosen.rows[0].feature in CONSTANT
    assert chosen.rows[0].note.startswith("r undefined, predicted +")


def test_silent_features_take_the_median_coefficient_of_their_layer():
    setup = made_setup()
    predict(setup.run, setup=setup)
    found = predictions.predictions(setup.run).set_index("feature")
    fitted = feature_lists.features(setup.run, limit=100).set_index("feature")["coefficient"]
    assert len(found) == 48
    assert found.index[~found["own"]].tolist() == sorted(set(range(48)) - set(fitted[fitted > 0].index))
    assert 47 in found.index[~found["own"]]
    np.testing.assert_allclose(found["coefficient"][47], np.median(fitted[fitted > 0]))
    np.testing.assert_allclose(found["coefficient"][3], 0.75)


def test_predictions_are_what_small_steps_are_measured_to_do():
    """Effect, shift and tilt of every feature against margins measured by steering with a hundredth of it."""
    setup = made_setup()
    (sae,) = setup.saes
    sums = mean_gradients(setup).classes[sae.point]
    shift, tilt = sums.shifts()[1], sums.tilt()
    planted(setup, 5, shift - (shift @ tilt) / (tilt @ tilt) * tilt)  # only shifts
    planted(setup, 6, tilt - (tilt @ shift) / (shift @ shift) * shift)  # only tilts
    predict(setup.run, setup=setup)
    found = predictions.predictions(setup.run).set_index("feature")
    assert abs(found["tilt"][5]) < 1e-4 * abs(found["shift"][5])
    assert abs(found["shift"][6]) < 1e-4 * abs(found["tilt"][6])
    step = 0.02
    variants = [
        {sae.point: sign * step * found["coefficient"][feature] * sae.directions([feature])[0]}
        for feature in range(12)
        for sign in (1, -1)
    ]
    view = likely_classes(setup.model, setup.task, train(setup), variants, STYLE)
    margin = view.logp[..., 1] - view.logp[..., 0]
    slopes = (margin[:, 0::2] - margin[:, 1::2]) / (2 * step)  # (samples, features)
    np.testing.assert_allclose(found["shift"][:12], slopes.mean(0), rtol=0.03, atol=2e-3)
    by_class = [slopes[view.right == k].mean(0) for k in (0, 1)]
    np.testing.assert_allclose(found["tilt"][:12], by_class[1] - by_class[0], rtol=0.03, atol=4e-3)
    right = np.where(view.right == 1, 1, -1)[:, None]
    p = 1 / (1 + np.exp(-right * margin))
    np.testing.assert_allclose(
        found["predicted_effect"][:12], ((p[:, 0::2] - p[:, 1::2]) / (2 * step)).mean(0), rtol=0.03, atol=1e-3
    )
    expected = np.where(found["shift"] > 0, "B", "A")
    assert found["toward"].tolist() == expected.tolist()


def test_shift_and_tilt_of_more_classes_are_of_each_against_the_others():
    rng = np.random.default_rng(0)
    n, d, k = 30, 5, 3
    logs, right = rng.normal(size=(n, k, d)), np.arange(n) % k
    sums = ClassSums.zeros(k, d)
    for of_sample, y in zip(logs, right, strict=True):
        sums.add(torch.tensor(of_sample - of_sample[0]), range(k), int(y))
    against = np.stack([logs[:, c] - logs[:, [j for j in range(k) if j != c]].mean(1) for c in range(k)], 1)
    np.testing.assert_allclose(sums.shifts(), against.mean(0), atol=1e-12)
    gaps = [against[right == c, c].mean(0) - against[right != c, c].mean(0) for c in range(k)]
    np.testing.assert_allclose(sums.tilt(), np.mean(gaps, 0), atol=1e-12)


def test_a_class_that_is_never_right_or_always_is_not_compared():
    sums = ClassSums.zeros(3, 2)
    for y in (0, 1, 0, 1):
        sums.add(torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]]), range(3), y)
    assert sums.compared.tolist() == [0, 1]


def test_three_classes_name_the_one_that_the_shift_favours():
    setup = made_setup(choices=("A", "B", "C"))
    items = [replace(item, target="ABC"[n % 3]) for n, item in enumerate(setup.items)]
    setup = replace(setup, items=items)
    predict(setup.run, setup=setup)
    found = predictions.predictions(setup.run)
    (sae,) = setup.saes
    sums = mean_gradients(setup).classes[sae.point]
    along = sae.directions(range(48)).double() @ sums.shifts().T
    assert found["toward"].tolist() == ["ABC"[k] for k in along.argmax(1).tolist()]
    np.testing.assert_allclose(found["shift"], found["coefficient"] * along.max(1).values.numpy(), rtol=1e-6)
    assert (found["shift"] > 0).all()


def test_without_classes_the_policy_gradient_is_that_of_finite_differences():
    setup = made_setup(choices=(), answer="ok so", count=10)
    facts = predict(setup.run, setup=setup)
    assert facts == {"kind": "answers", "samples": 10, "inexact": 0}
    found = predictions.predictions(setup.run).set_index("feature")
    assert found[["shift", "tilt", "toward"]].isna().all(axis=None)
    exact, (sae,) = double(setup.model), setup.saes
    ids = setup.model.tokenizer.encode("ok so", add_special_tokens=False)
    known = candidates.query(setup.run, "SELECT outcome FROM samples WHERE split = 'train' ORDER BY sample")["outcome"]
    y = known.to_numpy()
    prompts = [render(setup.model, item.prompt, STYLE) for item in train(setup)]

    def objective(point, vector):
        logp = [whole_logits(exact, prompt, ids, point, vector).log_softmax(-1) for prompt in prompts]
        said = torch.stack([of[range(len(ids)), ids].sum() for of in logp])
        return float((torch.tensor(y - y.mean()) * said).mean())

    for feature in (3, 10, 47):
        vector = found["coefficient"][feature] * sae.directions([feature])[0].double()
        slope = difference(objective, sae.point, vector)
        assert found["predicted_effect"][feature] == pytest.approx(slope, rel=5e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "tokens", "expected", "exact"),
    [
        ("ab", 3, Answer((67, 68), True), True),  # and the end token
        ("ab", 2, Answer((67, 68), False), False),  # ended before the limit, so some token is not in the text
        ("abcd", 4, None, True),  # cut off at the limit
        ("abcdef", 4, None, False),
        ("", 1, Answer((), True), True),
    ],
)
def test_a_stored_text_is_cut_into_its_tokens_or_said_to_be_inexact(text, tokens, expected, exact):
    model = tiny("llama")
    ids = tuple(model.tokenizer.encode(text, add_special_tokens=False))
    found, sure = answer_of(model, text, tokens, 4)
    assert sure == exact
    assert found.positions > 0
    assert found.tokens == ids[:4]
    if expected:
        assert found.ended == (expected.ended or not exact)


def test_what_is_known_is_not_computed_again_until_the_fit_changes(monkeypatch):
    setup = made_setup()
    with pytest.raises(CorrSteerError, match=f"run 'predict {setup.run}' first"):
        candidates.rankable_features(setup.run, ranking=predictions.PREDICTED)
    predict(setup.run, setup=setup)
    calls = []
    whole = prediction.mean_gradients
    monkeypatch.setattr(prediction, "mean_gradients", lambda *given: calls.append(1) or whole(*given))
    predict(setup.run, setup=setup)
    assert calls == []
    before = feature_facts.one_feature(setup.run, 1, 7)
    assert before["predicted_effect"] is not None
    with Writer(setup.run) as store:
        store.connection.execute("UPDATE features SET coefficient = 2 * coefficient WHERE feature = 7")
    assert feature_facts.one_feature(setup.run, 1, 7)["predicted_effect"] is None  # out of date
    assert predictions.predictions(setup.run).empty
    predict(setup.run, setup=setup)
    assert calls == [1]
    after = feature_facts.one_feature(setup.run, 1, 7)
    assert after["predicted_effect"] == pytest.approx(2 * before["predicted_effect"])


@pytest.mark.parametrize("key", ["predicted_effect", "shift", "tilt"])
def test_features_are_sorted_by_what_is_predicted(key):
    setup = made_setup()
    without = feature_lists.features(setup.run, limit=5)
    assert without[key].isna().all()
    predict(setup.run, setup=setup)
    found = feature_lists.features(setup.run, feature_lists.FeatureFilter(sort=key), limit=100)[key]
    assert found.notna().all()
    assert found.is_monotonic_decreasing


def test_v_tries_the_best_by_prediction_beside_the_best_by_r(monkeypatch):
    setup = made_setup()
    seen = []
    monkeypatch.setattr(candidates, "tried", lambda setup, wanted, progress: seen.append(wanted))
    candidates.try_candidates(setup.run, per_layer=3, setup=setup)
    predict(setup.run, setup=setup)
    candidates.try_candidates(setup.run, per_layer=3, setup=setup)
    by_r, both = ({*listed["feature"]} for listed in seen)
    assert len(by_r) == 3
    assert by_r < both
    assert 4 <= len(both) <= 6
    assert not seen[1].duplicated(candidates.CANDIDATE).any()


def test_v_lists_by_tilt_where_it_chooses_beyond_the_prior_and_by_the_whole_effect_elsewhere():
    """A planted feature that only shifts the answers raises the rate most; one that only tells classes apart tilts."""
    setup = made_setup()
    (sae,) = setup.saes
    means = mean_gradients(setup)
    tilt, success = means.classes[sae.point].tilt(), means.success[sae.point]
    shifts = success - (success @ tilt) / (tilt @ tilt) * tilt  # of all that raises the rate, what does not tilt
    tilts = tilt - (tilt @ shifts) / (shifts @ shifts) * shifts
    others = [feature for feature in range(48) if feature not in (5, 6)]
    sae.net.W_dec.data[others] *= 0.01
    planted(setup, 5, shifts)
    planted(setup, 6, tilts)
    sae.net.W_dec.data[5] *= 10
    predict(setup.run, setup=setup)
    found = predictions.predictions(setup.run).set_index("feature")
    assert found["predicted_effect"][5] > found["predicted_effect"][6]
    assert found["tilt"][6] > 1000 * abs(found["tilt"][5])
    ranked = candidates.rankable_features(setup.run)
    none = ranked[~ranked["feature"].isin([5, 6])].head(1)
    by_tilt, by_rate = (
        candidates.listed_for_v(setup.run, none, per_layer=1, scales=(1.0,), longest=1e9, objective=objective)
        for objective in ("beyond_prior", "rate")
    )
    assert {*by_tilt["feature"]} == {6, *none["feature"]}
    assert {*by_rate["feature"]} == {5, *none["feature"]}


def test_agreement_is_spearmans_of_the_smallest_scale_of_each_feature():
    setup = made_setup()
    predict(setup.run, setup=setup)
    found = predictions.predictions(setup.run).set_index("feature")
    r = feature_lists.features(setup.run, limit=100).set_index("feature")["r"]
    rng = np.random.default_rng(3)
    rows = [
        {"layer": 1, "feature": feature, "r": r[feature], "scale": scale, "coefficient": found["coefficient"][feature],
         "n": 4, "unsteered_rate": 0.5, "steered_rate": rng.random(), "positive_flips": 1, "negative_flips": 0, "p": 1.0}
        for feature in (3, 5, 6, 7, 8, 9) for scale in (feature / 10, 4.0)
    ]  # fmt: skip
    with Writer(setup.run) as store:
        store.add("effects", pd.DataFrame(rows))
    agreement = predictions.predicted_against_measured(setup.run)
    small = pd.DataFrame(rows[::2]).set_index("feature")
    effect = small["steered_rate"] - 0.5
    predicted = found["predicted_effect"][small.index] * small["scale"]
    points = agreement.points.set_index("feature")
    np.testing.assert_allclose(points["predicted"], predicted)
    np.testing.assert_allclose(points["effect"], effect)
    assert agreement.predicted == pytest.approx(np.corrcoef(predicted.rank(), effect.rank())[0, 1])
    known = small["r"].notna()
    assert known.sum() == 5  # that of 3 is undefined
    assert agreement.r == pytest.approx(stats.spearmanr(small["r"][known], effect[known]).statistic)


def test_a_set_may_hold_a_feature_that_never_fired_and_still_have_controls():
    from corrsteer_core.evaluation.controls import random_like
    from corrsteer_core.runs.stored_run import features_of

    setup = made_setup()
    base = validation.empty_of(setup).with_rows([SteeringRow(1, 47, 1.0)])
    (control,) = random_like(base, features_of(setup.run), setup.saes, count=1)
    assert control.rows[0].feature != 47


def test_steering_after_a_prediction_is_what_it_was_before():
    setup = made_setup()
    ids = [render(setup.model, item.prompt, STYLE) for item in train(setup)[:4]]
    before = [batch.tokens for batch in answers(setup.model, ids, max_new_tokens=5)]
    predict(setup.run, setup=setup)
    assert [batch.tokens for batch in answers(setup.model, ids, max_new_tokens=5)] == before


def test_the_command_line_predicts_and_ranks_by_it(capsys):
    model, saes = tiny_run.load()
    run = tiny_run.make_run(model, saes)

    def said(*arguments):
        capsys.readouterr()
        assert main.main([*arguments, "--quiet", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    found = said("predict", run, "--top", "3")
    assert (found["kind"], found["samples"]) == ("answers", int((measurements.samples(run)["split"] == "train").sum()))
    assert found["inexact"] == found["samples"]  # the run says one token, its texts have eight
    assert found["rank_correlation_with_measured"] == {"features": 0, "predicted": None, "r": None}
    effects = [row["predicted_effect"] for row in found["top"]]
    assert len(effects) == 3
    listed = said("features", run, "--ranking", "predicted_effect", "--top", "3")
    assert [row["predicted_effect"] for row in listed] == effects == sorted(effects, reverse=True)
    assert {row["layer"] for row in said("features", run, "--ranking", "predicted_effect", "--layer", "2")} == {2}
    chosen = said("select", run, "--strategy", "S", "--ranking", "predicted_effect")
    best = (listed[0]["layer"], listed[0]["feature"])
    assert [(row["layer"], row["feature"]) for row in chosen["rows"]] == [best]
    assert runs_commands.PREDICTED == predictions.PREDICTED
