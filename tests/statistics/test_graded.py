"""graded.py and resampling.py against scipy's permutation test, McNemar's and loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import permutation_test

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import graded, rates, resampling


def by_loop(differences):
    """All sign patterns, one at a time."""
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    return np.mean(np.array(sums) >= abs(np.sum(differences)) - 1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_few_differences_are_counted_exactly(seed):
    rng = np.random.default_rng(seed)
    differences = np.round(rng.normal(0.1, 0.3, size=9), 1)
    found = graded.sign_flip(differences, seed=0)
    assert found.exact
    assert found.p == pytest.approx(by_loop(differences), abs=1e-15)


def test_scipy_agrees_with_the_exact_p():
    differences = np.array([0.3, 0.25, -0.1, 0.4, 0.05, -0.2, 0.35, 0.15])
    expected = permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert graded.sign_flip(differences, seed=0).p == pytest.approx(expected.pvalue, abs=1e-15)


@pytest.mark.parametrize(("positive", "negative"), [(27, 1), (3, 3), (0, 5), (60, 40), (1, 0), (0, 0)])
def test_outcomes_of_0_and_1_give_mcnemar(positive, negative):
    before = np.array([0] * positive + [1] * negative + [1, 0, 1])
    after = np.array([1] * positive + [0] * negative + [1, 0, 1])
    found = graded.graded_change(before, after, seed=0)
    assert found.p == rates.mcnemar_p(positive, negative)
    assert found.exact
    assert found.mean == pytest.approx((positive - negative) / len(before))


def test_mcnemar_is_what_the_patterns_would_give():
    assert graded.sign_flip([1] * 7 + [-1] * 2, seed=0).p == pytest.approx(by_loop([1] * 7 + [-1] * 2), abs=1e-15)


def test_many_differences_are_drawn_and_close_to_the_exact_p():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.1, 0.3, size=20)  # without ties, which the small one below would break
    exact = graded.sign_flip(differences, seed=0)
    drawn = graded.sign_flip(np.append(differences, 1e-9), seed=0)  # one more, too small to matter
    assert exact.exact
    assert not drawn.exact
    assert drawn.p == pytest.approx(exact.p, abs=0.02)
    assert drawn == graded.sign_flip(np.append(differences, 1e-9), seed=0)


def test_a_drawn_p_is_never_0():
    found = graded.sign_flip(np.random.default_rng(0).uniform(0.5, 1, size=200), seed=0)
    assert found.p == 1 / (1 + graded.DRAWS)


def test_differences_of_0_change_nothing():
    assert graded.sign_flip([0.0, 0.5, 0, 0.25, -0.1, 0], seed=0) == graded.sign_flip([0.5, 0.25, -0.1], seed=0)
    assert graded.sign_flip([0.0, 0.0], seed=0) == graded.SignFlip(1.0, True)


def test_under_the_null_hypothesis_p_is_below_alpha_no_more_often_than_alpha():
    rng = np.random.default_rng(2)
    ps = [graded.sign_flip(rng.normal(size=12), seed=0).p for _ in range(600)]
    assert np.mean(np.array(ps) < 0.05) < 0.075
    assert 0.4 < np.mean(ps) < 0.6


def test_the_interval_is_that_of_a_bootstrap_written_as_a_loop():
    rng = np.random.default_rng(3)
    before, after = rng.random(40), rng.random(40)
    weights = np.concatenate(list(resampling.weight_blocks(300, 40, seed=7))).astype(int)
    means = [np.mean(np.repeat(after - before, row)) for row in weights]
    found = graded.graded_change(before, after, seed=7, resamples=300)
    assert found.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)
    assert found.mean == pytest.approx(np.mean(after) - np.mean(before))


def test_the_interval_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    covered = 0
    for seed in range(200):
        before = rng.random(60) / 2
        interval = graded.graded_change(before, before + rng.random(60) / 2, seed=seed, resamples=400).interval
        covered += interval.low <= 0.25 <= interval.high
    assert covered >= 178


def test_one_sample_has_no_interval():
    assert graded.graded_change([0.2], [0.7], seed=0) == graded.GradedChange(pytest.approx(0.5), None, 1.0, True)


@pytest.mark.parametrize(
    ("before", "after"), [([], []), ([0.1], [0.1, 0.2]), ([0.1], [1.2]), ([np.nan], [0.1]), ([[0.1]], [[0.1]])]
)
def test_what_is_no_pair_of_outcomes_is_refused(before, after):
    with pytest.raises(CorrSteerError, match="Outcomes"):
        graded.graded_change(before, after, seed=0)


# --- resampling --------------------------------------------------------------------------------


def test_weights_are_counts_of_draws_whatever_the_blocks(monkeypatch):
    whole = np.concatenate(list(resampling.weight_blocks(50, 20, seed=1)))
    assert whole.shape == (50, 20)
    assert (whole.sum(axis=1) == 20).all()
    monkeypatch.setattr(resampling, "_BLOCK_BYTES", 8 * 20 * 7)
    blocks = list(resampling.weight_blocks(50, 20, seed=1))
    assert len(blocks) == 8
    assert np.array_equal(np.concatenate(blocks), whole)


def test_every_sample_is_drawn_once_on_average():
    mean = np.concatenate(list(resampling.weight_blocks(4000, 10, seed=2))).mean(axis=0)
    assert mean == pytest.approx(np.ones(10), abs=0.06)


def test_an_interval_leaves_out_what_is_undefined():
    values = np.append(np.arange(101.0), np.nan)
    assert resampling.percentile_interval(values, 0.9) == pytest.approx((5, 95))
    assert resampling.percentile_interval(np.array([np.nan])) is None
    with pytest.raises(CorrSteerError, match="level"):
        resampling.percentile_interval(values, 95)
