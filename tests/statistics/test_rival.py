"""rival.py against statsmodels, McNemar's test and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import graded, paired, rival
from corrsteer_core.statistics.rates import Flips, mcnemar_p


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("m", [1, 2, 7, 40])
def test_holm_equals_statsmodels(seed, m):
    p = np.random.default_rng(seed).random(m) ** 3
    assert rival.holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-15)


def test_holm_by_hand_with_ties_and_unknowns():
    assert rival.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert rival.holm([0.02, 0.02]).tolist() == pytest.approx([0.04, 0.04])
    assert rival.holm([0.9, 0.8]).tolist() == [1, 1]
    with_gap = rival.holm([0.01, np.nan, 0.03])
    assert np.isnan(with_gap[1])
    assert with_gap[[0, 2]].tolist() == pytest.approx([0.02, 0.03])
    assert rival.holm([]).tolist() == []
    with pytest.raises(CorrSteerError, match="p-values"):
        rival.holm([1.5])


def test_holm_is_at_least_p_at_most_bonferroni_and_keeps_the_order():
    p = np.random.default_rng(0).random(30)
    corrected = rival.holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, 30 * p) + 1e-15).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()


def test_each_rival_is_compared_sample_by_sample():
    mine = np.array([1] * 18 + [0] * 2)
    prompt = np.array([1] * 8 + [0] * 10 + [1, 0])  # the set is right in 10 where it is not; 1 the other way
    offset = mine.copy()
    first, second = rival.compare_with_rivals(mine, {"prompt": prompt, "offset": offset})
    assert (first.rival, second.rival) == ("prompt", "offset")
    assert first.flips == Flips(10, 1, 20)
    assert first.p == mcnemar_p(10, 1)
    assert first.corrected_p == pytest.approx(2 * mcnemar_p(10, 1))
    assert first.interval == paired.difference_interval(10, 1, 20)
    assert (first.set_rate, first.rival_rate) == (0.9, 0.45)
    assert first.difference == pytest.approx(0.45)
    assert (second.p, second.corrected_p, second.difference) == (1.0, 1.0, 0.0)


def test_graded_outcomes_are_tested_as_such():
    rng = np.random.default_rng(1)
    mine, theirs = rng.random(30), rng.random(30)
    [found] = rival.compare_with_rivals(mine, {"prompt": theirs}, seed=4)
    expected = graded.graded_change(theirs, mine, seed=4)
    assert (found.p, found.interval) == (expected.p, expected.interval)
    assert found.difference == pytest.approx(expected.mean)


def test_no_rivals_no_comparisons_and_other_samples_are_refused():
    assert rival.compare_with_rivals([1, 0], {}) == []
    with pytest.raises(CorrSteerError, match="same samples"):
        rival.compare_with_rivals([1, 0], {"prompt": [1, 0, 1]})


def test_under_the_null_hypothesis_holm_errs_in_at_most_alpha_of_tournaments():
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(200):
        mine = rng.integers(0, 2, 60)
        rivals = {str(i): rng.integers(0, 2, 60) for i in range(5)}
        wrong += any(one.corrected_p < 0.05 for one in rival.compare_with_rivals(mine, rivals))
    assert wrong / 200 < 0.09


def test_control_p_by_hand():
    assert rival.control_p(0.2, [0.1] * 19) == 0.05
    assert rival.control_p(0.2, [0.1, 0.2, 0.3]) == 0.75  # a tie counts
    assert rival.control_p(0.1 + 0.2, [0.3]) == 1  # as does one that only rounding broke
    assert rival.control_p(0.2, []) == 1


def test_a_draw_of_the_controls_kind_has_a_p_that_is_uniform():
    rng = np.random.default_rng(3)
    ps = np.array([rival.control_p(rng.normal(), rng.normal(size=19)) for _ in range(2000)])
    assert np.mean(ps <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(ps <= 0.5) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(("effect", "controls"), [(np.nan, [0.1]), (0.1, [np.nan])])
def test_unmeasured_effects_are_refused(effect, controls):
    with pytest.raises(CorrSteerError, match="measure"):
        rival.control_p(effect, controls)
