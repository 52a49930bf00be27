"""stats.py against scipy, statsmodels and cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import rates

# --- rates and flips ---------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 40), (1, 1), (3, 7), (133, 160), (160, 160)])
def test_wilson_equals_statsmodels(successes, n, level):
    expected = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert rates.wilson(successes, n, level) == pytest.approx(expected, abs=1e-12)


def test_wilson_ends_are_exact_so_that_error_bars_do_not_point_outwards():
    assert {rates.wilson(0, n).low for n in range(1, 200)} == {0}
    assert {rates.wilson(n, n).high for n in range(1, 200)} == {1}


def test_wilson_of_nothing_says_nothing():
    assert rates.wilson(0, 0) == rates.Interval(0.0, 1.0)


def test_wilson_covers_the_true_rate_about_as_often_as_it_says():
    successes = np.random.default_rng(0).binomial(50, 0.1, size=2000)
    intervals = [rates.wilson(s, 50, 0.9) for s in successes]
    covered = np.mean([low <= 0.1 <= high for low, high in intervals])
    assert 0.86 < covered < 0.96


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (1, 0), (float("nan"), 5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(CorrSteerError, match="successes"):
        rates.wilson(successes, n)


@pytest.mark.parametrize("level", [0, 1, 95, -0.1])
def test_a_level_is_a_share(level):
    with pytest.raises(CorrSteerError, match="level"):
        rates.wilson(1, 2, level)


@pytest.mark.parametrize(("positive", "negative"), [(27, 1), (1, 27), (0, 5), (3, 3), (4, 3), (1, 0), (60, 40)])
def test_mcnemar_equals_scipy_and_statsmodels(positive, negative):
    p = rates.mcnemar_p(positive, negative)
    assert p == pytest.approx(scipy_stats.binomtest(positive, positive + negative, 0.5).pvalue, rel=1e-9)
    assert p == pytest.approx(mcnemar([[9, positive], [negative, 9]], exact=True).pvalue, rel=1e-9)


def test_mcnemar_by_hand():
    assert rates.mcnemar_p(5, 0) == pytest.approx(2 / 32)  # all five coins alike, either way
    assert rates.mcnemar_p(4, 1) == pytest.approx(12 / 32)  # 2 (1 + 5) of the 32
    assert rates.mcnemar_p(0, 0) == 1.0


def test_ser_is_the_negative_part_of_all_flips():
    assert rates.ser(27, 1) == pytest.approx(1 / 28)
    assert rates.ser(1, 27) == pytest.approx(27 / 28)
    assert rates.ser(4, 0) == 0.0


def test_ser_is_null_when_nothing_flipped():
    assert rates.ser(0, 0) is None


def test_negative_share_is_of_changed_texts():
    assert rates.negative_share(3, 12) == 0.25
    assert rates.negative_share(0, 12) == 0.0
    assert rates.negative_share(0, 0) is None


def test_one_text_with_two_verdicts_is_an_error():
    with pytest.raises(CorrSteerError, match="two verdicts"):
        rates.negative_share(3, 2)


@pytest.mark.parametrize("count", [rates.ser, rates.mcnemar_p, rates.negative_share])
def test_counts_are_not_negative(count):
    with pytest.raises(CorrSteerError, match="negative"):
        count(-1, 3)


def test_flips_count_changes_of_side_only():
    before = [0.0, 0.0, 1.0, 1.0, 0.6, 0.5, 0.2]
    after = [1.0, 0.0, 0.0, 1.0, 0.9, 0.51, 0.4]  # up, same, down, same, same side, up (0.5 is no success), same side
    assert rates.flips(before, after) == rates.Flips(positive=2, negative=1, n=7)


def test_flips_swap_with_their_arguments():
    rng = np.random.default_rng(1)
    before, after = rng.random(50), rng.random(50) ** 2
    there, back = rates.flips(before, after), rates.flips(after, before)
    assert there.positive == back.negative != there.negative == back.positive
    # What flips add is the change of the success count.
    assert there.positive - there.negative == np.sum(after > 0.5) - np.sum(before > 0.5)


def test_flips_of_no_samples_are_none():
    assert rates.flips([], []) == rates.Flips(0, 0, 0)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([0, 1], [1], "same samples"),
        ([[0], [1]], [[1], [1]], "same samples"),
        ([0, math.nan], [1, 1], "finite"),
        ([0, 1], [1, 5], "within"),
        ([0, -1], [1, 1], "within"),
    ],
)
def test_flips_refuse_outcomes_that_are_none(before, after, message):
    with pytest.raises(CorrSteerError, match=message):
        rates.flips(before, after)


# --- correlations ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 4, 10, 300])
def test_pearson_p_equals_scipy(n):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal(n), rng.standard_normal(n)
    expected = scipy_stats.pearsonr(x, y)
    assert rates.pearson_p(expected.statistic, n) == pytest.approx(expected.pvalue, rel=1e-9)


def test_pearson_p_is_students_t_far_in_the_tail():
    t = 0.6 * math.sqrt(998 / (1 - 0.36))
    expected = 2 * scipy_stats.t.sf(t, 998)
    assert 0 < expected < 1e-90
    assert rates.pearson_p(-0.6, 1000) == pytest.approx(expected, rel=1e-8)


def test_pearson_p_keeps_shape_and_what_is_undefined():
    p = rates.pearson_p([[0.0, np.nan], [1.0, -1.0 - 1e-12]], 20)
    np.testing.assert_array_equal(p, [[1.0, np.nan], [0.0, 0.0]])
    assert np.isnan(rates.pearson_p(1.0, 2))


def test_permuted_outcomes_give_uniform_p():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal(25), rng.exponential(size=25)
    r = [np.corrcoef(x, rng.permutation(y))[0, 1] for _ in range(2000)]
    assert scipy_stats.kstest(rates.pearson_p(r, 25), "uniform").pvalue > 0.01
    # The same test notices p-values of the wrong number of samples.
    assert scipy_stats.kstest(rates.pearson_p(r, 32), "uniform").pvalue < 0.01


def test_a_correlation_above_one_is_an_error():
    with pytest.raises(CorrSteerError, match="within"):
        rates.pearson_p([0.2, 1.01], 20)


@pytest.mark.parametrize("size", [1, 2, 200])
def test_benjamini_hochberg_equals_statsmodels(size):
    p = np.random.default_rng(size).random(size) ** 3
    p[: size // 4] = p[0]  # ties
    np.testing.assert_allclose(rates.benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], rtol=1e-12)


def test_benjamini_hochberg_by_hand():
    # 4 x 0.01 / 1, 4 x 0.04 / 3 (below 4 x 0.03 / 2, so both take it), 4 x 0.5 / 4.
    np.testing.assert_allclose(rates.benjamini_hochberg([0.5, 0.03, 0.01, 0.04]), [0.5, 0.16 / 3, 0.04, 0.16 / 3])


def test_undefined_p_stays_so_and_does_not_count():
    q = rates.benjamini_hochberg([[0.01, np.nan], [0.5, np.nan]])
    np.testing.assert_allclose(q, [[0.02, np.nan], [0.5, np.nan]])
    assert np.isnan(rates.benjamini_hochberg([np.nan])).all()
    assert rates.benjamini_hochberg([]).shape == (0,)


@pytest.mark.parametrize("p", [[0.5, 1.1], [-0.1]])
def test_benjamini_hochberg_refuses_what_is_no_probability(p):
    with pytest.raises(CorrSteerError, match="p-values"):
        rates.benjamini_hochberg(p)
