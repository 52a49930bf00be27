"""within_class.py against residuals of a dense regression, numpy's corrcoef and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.sparse import csc_array

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.correlation import within_class
from corrsteer_core.correlation.per_feature import correlate


def made(seed, n=80, features=30, k=3, density=0.3):
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((n, features)) < density, rng.exponential(2, (n, features)), 0)
    dense[:, 0] = 0  # silent
    dense[:, 1] = 7.3  # constant, never silent
    dense[:, 2] = 1e6 + rng.random(n)  # a large mean, a small variance
    return dense, rng.integers(0, 2, n).astype(float), rng.integers(0, k, n)


def residuals(values, classes):
    """What is left after a regression on one indicator per class."""
    indicators = np.array([[name == other for other in np.unique(classes)] for name in classes], dtype=float)
    return sm.OLS(values, indicators).fit().resid


def expected_r(dense, y, classes):
    found = np.full(dense.shape[1], np.nan)
    for j, column in enumerate(dense.T):
        z = residuals(column, classes)
        if np.abs(z).max() > 1e-9 * max(1, np.abs(column).max()):
            found[j] = np.corrcoef(z, residuals(y, classes))[0, 1]
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 4])
def test_it_is_the_correlation_of_the_residuals(seed, k):
    dense, y, classes = made(seed, k=k)
    found = within_class.within_class_r(csc_array(dense), y, classes)
    assert found == pytest.approx(expected_r(dense, y, classes), abs=1e-8, nan_ok=True)
    assert np.isnan(found[:2]).all()
    assert not np.isnan(found[2:]).any()


def test_with_one_class_it_is_pearsons_r():
    dense, y, _ = made(1)
    found = within_class.within_class_r(csc_array(dense), y, ["all"] * len(y))
    assert found == pytest.approx(correlate(csc_array(dense), y).r, abs=1e-12, nan_ok=True)


def test_graded_outcomes_and_names_as_classes():
    dense, _, classes = made(2)
    y = np.random.default_rng(0).random(len(dense))
    found = within_class.within_class_r(csc_array(dense), y, np.array(["A", "B", "C"])[classes])
    assert found == pytest.approx(expected_r(dense, y, classes), abs=1e-8, nan_ok=True)


def test_a_feature_that_fires_on_one_class_correlates_with_success_but_not_within_the_class():
    """The model says "Positive" to everything: what fires on positive samples goes with success, and knows nothing."""
    rng = np.random.default_rng(3)
    classes = np.repeat([0, 1], 200)
    y = np.where(classes == 1, rng.random(400) < 0.95, rng.random(400) < 0.3).astype(float)
    marks_class = np.where(classes == 1, 5 + rng.random(400), 0)
    knows = np.where(y > 0, rng.random(400), 0.0) * (rng.random(400) < 0.5)
    Z = csc_array(np.column_stack([marks_class, knows]))
    plain, within = correlate(Z, y).r, within_class.within_class_r(Z, y, classes)
    assert plain[0] > 0.6
    assert abs(within[0]) < 0.12
    assert within[1] > 0.3


def test_constant_within_every_class_is_undefined_whatever_rounding_does():
    classes = np.repeat([0, 1, 2], 7)
    z = np.array([0.1, 0.0, 1 / 3])[classes]  # 0.1 * 7 / 7 is not 0.1
    y = np.arange(21) % 2 / 1.0
    assert np.isnan(within_class.within_class_r(csc_array(z[:, None]), y, classes)).all()
    constant_y = np.array([0.1, 0.7, 1 / 3])[classes]
    varied = np.random.default_rng(0).random((21, 2))
    assert np.isnan(within_class.within_class_r(csc_array(varied), constant_y, classes)).all()


def test_a_feature_equal_to_the_outcome_has_r_1_and_a_scale_changes_nothing():
    _, y, classes = made(4)
    z = (3 * y + 10 * classes)[:, None]
    assert within_class.within_class_r(csc_array(z), y, classes) == pytest.approx([1.0])
    assert within_class.within_class_r(csc_array(-1e8 * z), y, classes) == pytest.approx([-1.0])


def test_stored_zeros_and_entries_stored_twice_are_read_as_they_should_and_left_alone():
    rows, columns, values = [0, 0, 1, 2, 3], [0, 0, 0, 0, 0], [1.0, 2.0, 0.0, 5.0, 4.0]
    Z = csc_array((values, (rows, columns)), shape=(6, 1))
    twice = csc_array((np.array(values), np.array(rows), np.array([0, 5])), shape=(6, 1))
    y, classes = [0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 1, 1]
    expected = expected_r(np.array([[3.0], [0], [5], [4], [0], [0]]), np.array(y, dtype=float), classes)
    assert within_class.within_class_r(Z, y, classes) == pytest.approx(expected, abs=1e-12)
    assert within_class.within_class_r(twice, y, classes) == pytest.approx(expected, abs=1e-12)
    assert twice.nnz == 5


def test_the_permutations_keep_the_outcomes_of_every_class():
    _, y, classes = made(5, n=50)
    [dealt] = list(within_class._permuted(y, classes, 30, seed=0))
    assert dealt.shape == (50, 30)
    for name in range(3):
        for column in dealt.T:
            assert sorted(column[classes == name]) == sorted(y[classes == name])
    assert len({tuple(column) for column in dealt.T}) == 30


def test_every_permutation_of_a_small_class_is_as_likely():
    y, classes = np.array([1.0, 2.0, 3.0, 9.0]), np.array([0, 1, 0, 0])
    [dealt] = list(within_class._permuted(y, classes, 6000, seed=1))
    kinds, counts = np.unique(dealt.T, axis=0, return_counts=True)
    assert len(kinds) == 6
    assert (kinds[:, 1] == 2).all()
    assert counts == pytest.approx([1000] * 6, abs=150)


def levels(by_layer, y, classes, *, permutations=200, **asked):
    """What chance makes of r within the class, of some layers."""
    found = within_class.WithinClass(y, classes, permutations=permutations, **asked)
    for layer, Z in by_layer.items():
        found.add(layer, Z)
    return found.levels()


def test_chance_maxima_equal_the_best_r_of_each_permuted_outcome():
    dense, y, classes = made(6)
    found = levels({3: csc_array(dense)}, y, classes, permutations=40, seed=2, floor=1)
    centred = within_class._centred(y, classes)
    blocks = np.concatenate(list(within_class._permuted(centred, classes, 40, seed=2)), axis=1)
    lowest, highest = blocks.min(), blocks.max()
    for i, column in enumerate(blocks.T):
        # r does not mind a shift and a scale, which bring centred outcomes back into [0, 1].
        r = expected_r(dense, (column - lowest) / (highest - lowest), classes)
        assert found.by_layer[3].max_r[i] == pytest.approx(np.nanmax(r), abs=1e-7)
    assert found.by_layer[3].features == 28
    assert found.overall.level_r == np.sort(found.overall.max_r)[38]  # 2 of 40 may lie above: p = 2 / 41


def test_layers_share_their_permutations_and_features_below_the_floor_take_no_part():
    dense, y, classes = made(7)
    one = csc_array(dense)
    found = levels({0: one, 5: one}, y, classes, permutations=30, seed=0, floor=20)
    assert np.array_equal(found.by_layer[0].max_r, found.by_layer[5].max_r)
    assert np.array_equal(found.overall.max_r, found.by_layer[0].max_r)
    eligible = (dense[:, 2:] != 0).sum(axis=0) >= 20
    assert found.by_layer[0].features == eligible.sum()
    assert found.overall.features == 2 * eligible.sum()
    none = levels({0: one}, y, classes, permutations=30, seed=0, floor=1000)
    assert np.isnan(none.overall.max_r).all()


def test_blocks_do_not_change_the_result(monkeypatch):
    dense, y, classes = made(8)
    whole = levels({0: csc_array(dense)}, y, classes, permutations=25, seed=3, floor=1)
    monkeypatch.setattr(within_class, "_BLOCK_BYTES", 8 * 80 * 6)
    parts = levels({0: csc_array(dense)}, y, classes, permutations=25, seed=3, floor=1)
    assert parts.overall.max_r == pytest.approx(whole.overall.max_r, abs=1e-12)


def test_p_of_the_best_is_uniform_where_outcomes_depend_on_the_class_alone():
    rng = np.random.default_rng(9)
    ps = []
    for seed in range(120):
        classes = rng.integers(0, 2, 60)
        y = (rng.random(60) < np.where(classes, 0.9, 0.3)).astype(float)
        Z = csc_array(np.where(rng.random((60, 20)) < 0.3, rng.random((60, 20)), 0) * (1 + 3 * classes[:, None]))
        r = within_class.within_class_r(Z, y, classes)
        found = levels({0: Z}, y, classes, permutations=99, seed=seed, floor=1)
        ps.append(found.p_of_best(np.nanmax(r)))
    assert np.mean(np.array(ps) <= 0.05) < 0.13
    assert 0.4 < np.mean(ps) < 0.6


@pytest.mark.parametrize(
    ("y", "classes", "message"),
    [([0, 1], [0, 0, 0], "same samples"), ([0, 1, 1], [0, 0], "same samples"), ([0, 1, 2], [0, 0, 0], "within")],
)
def test_what_does_not_fit_is_refused(y, classes, message):
    with pytest.raises(CorrSteerError, match=message):
        within_class.within_class_r(csc_array(np.eye(3)), y, classes)


def test_impossible_settings_are_refused():
    Z = csc_array(np.eye(3))
    with pytest.raises(CorrSteerError, match="cannot show a level"):
        levels({0: Z}, [0, 1, 1], [0, 0, 0], permutations=18, seed=0, floor=1)
    with pytest.raises(CorrSteerError, match="at least one layer"):
        levels({}, [0, 1, 1], [0, 0, 0], seed=0, floor=1)
    with pytest.raises(CorrSteerError, match="finite"):
        within_class.within_class_r(csc_array(np.diag([1, np.nan, 1])), [0, 1, 1], [0, 0, 0])
