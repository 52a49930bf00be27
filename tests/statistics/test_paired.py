"""paired.py against R's values, the definition of the score test, scipy and the exact test itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import paired, rates

ALL_THREE = [paired.tango_interval, paired.conditional_interval, paired.difference_interval]


@pytest.mark.parametrize(
    ("positive", "negative", "n", "level", "expected"),
    [
        (1, 7, 21, 0.95, (-0.517, -0.026)),  # airway reactivity, Fagerland, Lydersen & Laake 2014, table VI
        (48, 41, 549, 0.90, (-0.0157, 0.0414)),  # R's PropCIs::scoreci.mp, as the next
        (28, 25, 618, 0.90, (-0.0148, 0.0247)),
    ],
)
def test_tango_equals_published_values(positive, negative, n, level, expected):
    assert paired.tango_interval(positive, negative, n, level) == pytest.approx(
        expected, abs=5.1e-4 if n == 21 else 5.1e-5
    )


def score_statistic(b, c, n, d):
    """The score test of p_up - p_down = d: the likelihood is maximised numerically, not by the formula."""

    def loss(q):
        cells = ((b, q + d), (c, q), (n - b - c, 1 - 2 * q - d))
        return math.inf if any(k and p <= 0 for k, p in cells) else -sum(k * math.log(p) for k, p in cells if k)

    q = minimize_scalar(loss, bounds=(max(0, -d), (1 - d) / 2), method="bounded", options={"xatol": 1e-12}).x
    return (b - c - n * d) / math.sqrt(n * (2 * q + d - d * d))


@pytest.mark.parametrize(("b", "c", "n"), [(27, 1, 160), (5, 3, 20), (12, 30, 90), (2, 1, 400), (9, 9, 20)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_tango_ends_where_the_score_test_is_at_its_limit(b, c, n, level):
    low, high = paired.tango_interval(b, c, n, level)
    z = rates._normal_quantile(level)
    assert score_statistic(b, c, n, low) == pytest.approx(z, abs=1e-4)
    assert score_statistic(b, c, n, high) == pytest.approx(-z, abs=1e-4)


def test_tango_ends_of_no_flips_are_by_hand():
    """Without flips q is 0 or -d, so T^2 = n d / (1 - d) = z^2 and d = z^2 / (n + z^2)."""
    z = rates._normal_quantile(0.95)
    end = z * z / (50 + z * z)
    assert paired.tango_interval(0, 0, 50) == pytest.approx((-end, end), abs=1e-9)
    # The formulas go over into those of almost no flips, and of almost nothing but flips.
    assert paired.tango_interval(1, 1, 10**7).high == pytest.approx(paired.tango_interval(0, 0, 10**7).high, abs=1e-6)


@pytest.mark.parametrize("n", [1, 3, 4, 6, 50])
def test_tango_end_of_nothing_but_flips_is_where_the_score_test_is_at_its_limit(n):
    z, (low, high) = rates._normal_quantile(0.95), paired.tango_interval(n, 0, n)
    assert high == 1
    assert score_statistic(n, 0, n, low) == pytest.approx(z, abs=1e-4)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_what_excludes_0_agrees_with_the_exact_test_for_all_counts(level):
    for b in range(41):
        for c in range(41):
            significant = rates.mcnemar_p(b, c) < 1 - level
            for interval in (paired.conditional_interval, paired.difference_interval):
                low, high = interval(b, c, 100, level)
                assert (low > 0 or high < 0) == significant, (b, c, interval.__name__)
            if b + c:
                low, high = paired.ser_interval(b, c, level)
                assert (low > 0.5 or high < 0.5) == significant, (b, c, "ser")


def test_many_flips_agree_too():
    """Around the limit of the test, where a disagreement would be."""
    for m in (60, 141, 400, 1000, 2501):
        middle = int(m / 2 - 1.96 * math.sqrt(m) / 2)
        for c in range(middle - 4, middle + 5):
            low, _ = paired.difference_interval(m - c, c, 3000)
            assert (low > 0) == (rates.mcnemar_p(m - c, c) < 0.05)


def test_tango_alone_can_disagree_with_the_exact_test():
    assert rates.mcnemar_p(5, 0) > 0.05
    assert paired.tango_interval(5, 0, 40).low > 0
    assert paired.difference_interval(5, 0, 40).low < 0


@pytest.mark.parametrize("interval", ALL_THREE)
def test_intervals_hold_the_estimate_mirror_and_widen_with_the_level(interval):
    for b, c, n in [(27, 1, 160), (0, 4, 4), (6, 0, 6), (3, 3, 9), (0, 0, 5), (80, 20, 100), (1, 0, 1)]:
        low, high = interval(b, c, n)
        assert -1 <= low <= (b - c) / n <= high <= 1
        assert interval(c, b, n) == pytest.approx((-high, -low), abs=1e-9)
        wider = interval(b, c, n, 0.99)
        assert wider.low <= low + 1e-12
        assert wider.high >= high - 1e-12


@pytest.mark.parametrize("interval", ALL_THREE)
def test_no_samples_no_interval(interval):
    assert interval(0, 0, 0) is None


@pytest.mark.parametrize(
    ("p_up", "p_down", "n"), [(0.17, 0.006, 160), (0.1, 0.05, 160), (0.05, 0.05, 90), (0.02, 0, 300)]
)
def test_the_interval_to_show_covers_as_often_as_it_says(p_up, p_down, n):
    draws = np.random.default_rng(0).multinomial(n, [p_up, p_down, 1 - p_up - p_down], size=1000)
    kinds, counts = np.unique(draws[:, :2], axis=0, return_counts=True)
    held = [
        low <= p_up - p_down <= high for low, high in (paired.difference_interval(int(b), int(c), n) for b, c in kinds)
    ]
    assert np.sum(counts * held) / 1000 > 0.93


def test_the_conditional_interval_is_no_interval_of_the_difference():
    """Why it is not the one to show: with flips of one kind it ends at the estimate."""
    assert paired.conditional_interval(10, 0, 100).high == 0.1
    assert paired.difference_interval(10, 0, 100).high > 0.15


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 12), (12, 12), (1, 28), (3, 7), (45, 100)])
def test_clopper_pearson_equals_scipy(successes, n, level):
    expected = binomtest(successes, n).proportion_ci(level, method="exact")
    assert paired.clopper_pearson(successes, n, level) == pytest.approx((expected.low, expected.high), abs=1e-10)


def test_clopper_pearson_of_nothing_and_ser_of_no_flips():
    assert paired.clopper_pearson(0, 0) == (0, 1)
    assert paired.ser_interval(0, 0) is None


def test_the_interval_of_ser_is_around_ser():
    expected = binomtest(1, 28).proportion_ci(0.95, method="exact")
    assert paired.ser_interval(27, 1) == pytest.approx((expected.low, expected.high), abs=1e-10)
    assert expected.low < rates.ser(27, 1) < expected.high


@pytest.mark.parametrize("interval", ALL_THREE)
@pytest.mark.parametrize("counts", [(-1, 0, 5), (0, -1, 5), (3, 3, 5)])
def test_impossible_counts_are_refused(interval, counts):
    with pytest.raises(CorrSteerError, match="Counts"):
        interval(*counts)
    with pytest.raises(CorrSteerError, match="level"):
        interval(1, 1, 5, 95)
