"""Votes of a blind test against scipy's binomial test and statsmodels' interval."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.preference import preference


@pytest.mark.parametrize(
    ("steered", "unsteered"), [(1, 0), (0, 1), (3, 3), (9, 1), (1, 9), (14, 6), (40, 61), (200, 150)]
)
@pytest.mark.parametrize("neither", [0, 7])
def test_share_interval_and_p_equal_those_of_scipy_and_statsmodels(steered, unsteered, neither):
    found = preference(steered, unsteered, neither)
    n = steered + unsteered
    assert found[:4] == (steered, unsteered, neither, steered / n)
    assert found.interval == pytest.approx(proportion_confint(steered, n, method="wilson"), abs=1e-12)
    assert found.p == pytest.approx(binomtest(steered, n).pvalue, rel=1e-9)


@pytest.mark.parametrize("neither", [0, 4])
def test_without_a_preference_nothing_is_known(neither):
    found = preference(0, 0, neither)
    assert (found.share, tuple(found.interval), found.p, found.neither) == (None, (0.0, 1.0), 1.0, neither)


@pytest.mark.parametrize("counts", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_counts_are_not_negative(counts):
    with pytest.raises(CorrSteerError, match="negative"):
        preference(*counts)
