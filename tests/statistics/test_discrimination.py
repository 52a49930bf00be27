"""discrimination.py against scikit-learn, scipy and bootstraps written as loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import discrimination
from corrsteer_core.statistics.resampling import weight_blocks


def made(seed, n=150, k=3, signal=1.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    return log_softmax(rng.normal(size=(n, k)) + signal * np.eye(k)[y], axis=1), y


def loop_mean_auc(logp, y):
    """One-vs-rest by scikit-learn, each class's score being its log-probability minus the mean of the others."""
    found = []
    for k in range(logp.shape[1]):
        score = np.round(logp[:, k] - np.delete(logp, k, axis=1).mean(axis=1), 9)
        if 0 < np.sum(y == k) < len(y):
            found.append(roc_auc_score(y == k, score))
    return np.mean(found)


@pytest.mark.parametrize("seed", range(6))
def test_auc_equals_scikit_learn_and_mann_whitney_with_ties(seed):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 6, 80) / 2, rng.random(80) < 0.3
    found = discrimination.auc(scores, positive)
    assert found == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    u = mannwhitneyu(scores[positive], scores[~positive]).statistic
    assert found == pytest.approx(u / (positive.sum() * (~positive).sum()), abs=1e-12)


def test_auc_by_hand():
    assert discrimination.auc([1, 2, 3, 4], [0, 0, 1, 1]) == 1
    assert discrimination.auc([1, 2, 3, 4], [1, 1, 0, 0]) == 0
    assert discrimination.auc([1, 1, 1], [0, 1, 1]) == 0.5
    assert discrimination.auc([1, 2, 2, 3], [0, 1, 0, 1]) == 0.875  # pairs: 1, 1, 1/2, 1


@pytest.mark.parametrize("positive", [[0, 0, 0], [1, 1, 1]])
def test_auc_of_one_kind_is_undefined(positive):
    assert discrimination.auc([1.0, 2.0, 3.0], positive) is None
    assert discrimination.auc([], []) is None


@pytest.mark.parametrize("k", [2, 3, 5])
def test_mean_auc_equals_scikit_learn_class_by_class(k):
    logp, y = made(k, k=k)
    assert discrimination.mean_auc(logp, y) == pytest.approx(loop_mean_auc(logp, y), abs=1e-12)


def test_two_classes_give_the_auc_of_the_margin():
    logp, y = made(1, k=2)
    assert discrimination.mean_auc(logp, y) == pytest.approx(roc_auc_score(y, logp[:, 1] - logp[:, 0]), abs=1e-12)


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_a_constant_per_class_leaves_auc_exactly_where_it_was(k, seed):
    """What only shifts the answers must not look like better discrimination."""
    logp, y = made(seed, k=k)
    shift = np.random.default_rng(seed).normal(scale=3, size=k)
    assert discrimination.mean_auc(log_softmax(logp + shift, axis=1), y) == pytest.approx(
        discrimination.mean_auc(logp, y), abs=1e-12
    )
    change = discrimination.auc_change(logp, log_softmax(logp + shift, axis=1), y, resamples=50, seed=0)
    assert change.difference == pytest.approx(0, abs=1e-12)
    assert change.interval == pytest.approx((0, 0), abs=1e-12)


def test_scores_that_tie_in_bfloat16_still_tie_after_a_shift():
    coarse, y = made(3, n=300, k=3)
    logp = np.round(coarse * 4) / 4
    assert discrimination.mean_auc(logp + np.array([0.1, 0.7, -0.3]), y) == pytest.approx(
        discrimination.mean_auc(logp, y), abs=1e-12
    )


def test_a_class_that_is_never_right_is_left_out():
    logp, y = made(4, k=3)
    y = np.where(y == 2, 0, y)
    each = discrimination.class_auc(logp, y)
    assert np.isnan(each[2])
    assert discrimination.mean_auc(logp, y) == pytest.approx(each[:2].mean(), abs=1e-15)
    assert discrimination.mean_auc(logp, np.zeros_like(y)) is None
    assert discrimination.auc_change(logp, logp, np.zeros_like(y), seed=0) is None


def test_samples_without_a_class_are_left_out_of_its_auc():
    logp, y = made(5, k=4)
    lacks = (y != 3) & (np.arange(len(y)) % 3 == 0)
    masked = logp.copy()
    masked[lacks, 3] = -np.inf
    has = ~lacks
    others = masked[has][:, :3].mean(axis=1)
    expected = roc_auc_score(y[has] == 3, masked[has, 3] - others)
    assert discrimination.class_auc(masked, y)[3] == pytest.approx(expected, abs=1e-12)
    # A class that nobody has changes nothing.
    wider = np.column_stack([logp, np.full(len(y), -np.inf)])
    assert discrimination.mean_auc(wider, y) == pytest.approx(discrimination.mean_auc(logp, y), abs=1e-12)


@pytest.mark.parametrize("k", [2, 3])
def test_every_resample_equals_scikit_learn_on_the_drawn_samples(k):
    before, y = made(6, n=40, k=k)
    after, _ = made(7, n=40, k=k)
    after = np.round(after, 1)  # with ties
    before = np.round(before, 1)
    weights = np.concatenate(list(weight_blocks(60, 40, seed=3)))
    expected = []
    for row in weights.astype(int):
        drawn = np.repeat(np.arange(40), row)
        expected.append(loop_mean_auc(after[drawn], y[drawn]) - loop_mean_auc(before[drawn], y[drawn]))
    change = discrimination.auc_change(before, after, y, resamples=60, seed=3)
    assert change.interval == pytest.approx(np.quantile(expected, [0.025, 0.975]), abs=1e-12)
    assert change.used == 60
    assert change.difference == pytest.approx(loop_mean_auc(after, y) - loop_mean_auc(before, y), abs=1e-12)


def test_resamples_without_a_class_take_the_mean_of_the_others_or_none():
    before, _ = made(8, n=12, k=2)
    y = np.array([1] + [0] * 11)  # a third of resamples have no sample of class 1
    change = discrimination.auc_change(before, before * 2, y, resamples=400, seed=0)
    assert change.used == np.sum(np.concatenate(list(weight_blocks(400, 12, seed=0)))[:, 0] > 0)
    assert 0.5 < change.used / 400 < 0.75


def test_the_interval_excludes_0_for_a_real_gain_and_covers_it_for_none():
    before, y = made(9, n=300, k=2, signal=1.0)
    gain = discrimination.auc_change(before, before + 1.5 * np.eye(2)[y], y, seed=1)
    assert gain.interval.low > 0
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        logp, y = made(100 + seed, n=100, k=2)
        noise = [log_softmax(logp + rng.normal(scale=0.7, size=logp.shape), axis=1) for _ in range(2)]
        interval = discrimination.auc_change(*noise, y, resamples=400, seed=seed).interval
        covered += interval.low <= 0 <= interval.high
    assert covered >= 88


def test_the_same_seed_gives_the_same_interval_and_before_and_after_mirror_each_other():
    before, y = made(10)
    after, _ = made(11)
    one = discrimination.auc_change(before, after, y, resamples=200, seed=5)
    assert one == discrimination.auc_change(before, after, y, resamples=200, seed=5)
    back = discrimination.auc_change(after, before, y, resamples=200, seed=5)
    assert back.interval == pytest.approx((-one.interval.high, -one.interval.low), abs=1e-12)


def test_what_is_no_pair_is_refused():
    logp, y = made(12, n=6, k=2)
    masked = logp.copy()
    masked[0, 1 - y[0]] = -np.inf
    with pytest.raises(CorrSteerError, match="-inf differ"):
        discrimination.auc_change(logp, masked, y, seed=0)
    with pytest.raises(CorrSteerError, match="resamples"):
        discrimination.auc_change(logp, logp, [0, 1, 0, 1, 0, 1], resamples=0, seed=0)
    with pytest.raises(CorrSteerError, match="finite score"):
        discrimination.auc([np.nan, 1.0], [0, 1])


def test_a_sample_with_one_class_only_has_nothing_to_tell_apart():
    logp, y = made(13, n=40, k=2)
    lone = np.array([[-np.inf, -0.1], [-5.0, -np.inf]])
    with_lone, truth = np.concatenate([logp, lone]), np.concatenate([y, [1, 0]])
    assert discrimination.mean_auc(with_lone, truth) == discrimination.mean_auc(logp, y)
