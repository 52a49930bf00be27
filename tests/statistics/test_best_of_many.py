"""best_of_many.py against all sign patterns written out, scipy's binomial test, and draws where there is nothing to find."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import best_of_many
from corrsteer_core.statistics.best_of_many import corrected_p


def made(seed, n=10, candidates=4):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, n).astype(float), rng.integers(0, 2, (n, candidates)).astype(float)


def by_all_patterns(before, after):
    """p of each candidate from every sign pattern, as the definition has it."""
    difference = after - before[:, None]
    length = np.sqrt((difference**2).sum(axis=0))
    length[length == 0] = 1
    seen = difference.sum(axis=0) / length
    maxima = [
        max((np.array(signs)[:, None] * difference).sum(axis=0) / length)
        for signs in product((-1, 1), repeat=len(before))
    ]
    return np.array([np.mean([one >= value - 1e-9 for one in maxima]) if value > 0 else 1.0 for value in seen])


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_share_of_patterns_whose_best_candidate_reaches_it(seed):
    before, after = made(seed)
    found = best_of_many.best_of_many(before, after, draws=20_000).p
    assert found == pytest.approx(by_all_patterns(before, after), abs=0.015)


def test_graded_outcomes_are_compared_by_their_size():
    rng = np.random.default_rng(3)
    before, after = rng.random(9), rng.random((9, 3))
    found = best_of_many.best_of_many(before, after, draws=20_000).p
    assert found == pytest.approx(by_all_patterns(before, after), abs=0.015)


@pytest.mark.parametrize(("up", "down"), [(4, 0), (5, 0), (9, 2), (2, 2), (1, 5)])
def test_a_single_candidate_has_the_exact_one_sided_p(up, down):
    before = np.r_[np.zeros(up), np.ones(down), np.zeros(7)]
    after = np.r_[np.ones(up), np.zeros(down), np.zeros(7)]
    expected = stats.binomtest(up, up + down, alternative="greater").pvalue if up > down else 1.0
    assert corrected_p(before, after[:, None]) == pytest.approx([expected])


def test_copies_of_a_candidate_cost_nothing_and_independent_ones_do():
    before = np.zeros(30)
    good = np.r_[np.ones(6), np.zeros(24)]
    alone = corrected_p(before, good[:, None])[0]
    copies = corrected_p(before, np.tile(good[:, None], 50))[0]
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2, 30).astype(float)
    others = np.column_stack([np.where(base > 0, base, good), *rng.integers(0, 2, (49, 30)).astype(float)])
    assert copies == pytest.approx(alone, abs=0.006)
    assert corrected_p(base, others)[0] > 5 * copies


def test_of_many_that_do_nothing_the_best_is_called_more_in_one_of_twenty_draws():
    wrong = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        before = (rng.random(60) < 0.6).astype(float)
        flip = rng.random((60, 40)) < 0.15
        after = np.where(flip, 1 - before[:, None], before[:, None]) if seed % 2 else rng.random((60, 40)).round()
        if seed % 2:  # as often up as down
            after = np.where(flip & (rng.random((60, 40)) < 0.5), 1.0, np.where(flip, 0.0, before[:, None]))
        else:
            before = rng.random(60).round()
        wrong += best_of_many.best_of_many(before, after, seed=seed, draws=199).p.min() < 0.05
    assert wrong <= 25  # 15 expected, 3.7 standard deviation


def test_above_the_critical_statistic_p_is_below_alpha_and_not_at_it():
    before, after = made(8, n=40, candidates=12)
    found = best_of_many.best_of_many(before, after, draws=499)
    for statistic in np.unique(np.r_[found.maxima, found.statistics]):
        p = best_of_many.BestOfMany(np.array([statistic]), found.maxima).p[0]
        assert (p < 0.05) == (statistic > found.critical(0.05))
    assert best_of_many.statistics_of(before, after) == pytest.approx(found.statistics)


@pytest.mark.parametrize("draws", [39, 99, 4_999])
def test_just_above_the_critical_statistic_p_is_the_largest_below_alpha(draws):
    maxima = np.random.default_rng(draws).normal(size=draws)  # no two alike, as they are for many samples
    critical = best_of_many.BestOfMany(np.zeros(1), maxima).critical(0.05)
    above, below = best_of_many.BestOfMany(np.array([critical + 1e-7, critical - 1e-7]), maxima).p
    assert above < 0.05 <= below
    assert above == (np.ceil(0.05 * (draws + 1)) - 1) / (draws + 1)


def test_what_changes_nothing_has_p_1_and_shapes_must_fit():
    assert corrected_p(np.ones(5), np.ones((5, 3))).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(CorrSteerError, match="same samples"):
        best_of_many.best_of_many(np.ones(5), np.ones((4, 2)))
