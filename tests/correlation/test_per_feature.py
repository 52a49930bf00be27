"""correlation.py against dense numpy, scipy, loops and cases worked by hand."""

from __future__ import annotations

import math
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.sparse import csc_array

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.correlation import chance, sparse_columns
from corrsteer_core.correlation.bootstrap import bootstrap
from corrsteer_core.correlation.chance import permutation_levels
from corrsteer_core.correlation.convergence_points import convergence
from corrsteer_core.correlation.per_feature import correlate
from corrsteer_core.correlation.rankings import RANKINGS
from corrsteer_core.correlation.sparse_columns import is_constant
from tests.made.arrays import sparse


def outcomes(n: int, *, seed: int, rate: float = 0.6) -> np.ndarray:
    """Random verdicts, 0 or 1, at least one of each."""
    y = (np.random.default_rng(seed).random(n) < rate).astype(float)
    y[:2] = 0, 1
    return y


def dense_r(Z: csc_array, y: np.ndarray) -> np.ndarray:
    """r of every column by scipy, which gives nan (and a warning) for constant ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array([scipy_stats.pearsonr(column, y).statistic for column in Z.toarray().T])


# --- correlate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_r_equals_scipy_on_the_dense_array(graded, signed):
    Z = sparse(60, 80, seed=0, density=0.1)
    if signed:
        Z.data -= 2.0
    y = np.random.default_rng(1).random(60) if graded else outcomes(60, seed=1)
    found = correlate(Z, y).r
    np.testing.assert_allclose(found, dense_r(Z, y), atol=1e-9)
    assert np.nanmax(found) > 0.2


@pytest.mark.parametrize("silent", [0, 1, 50])
def test_r_survives_a_large_mean_and_a_tiny_variance(silent):
    rng = np.random.default_rng(2)
    y = rng.random(200)
    z = 1e6 + 1e-3 * (rng.standard_normal((200, 5)) + y[:, None])
    z[:silent] = 0
    exact = z.astype(np.longdouble) - z.astype(np.longdouble).mean(axis=0)
    dy = y.astype(np.longdouble) - y.astype(np.longdouble).mean()
    expected = (exact.T @ dy) / np.sqrt((exact**2).sum(axis=0) * (dy @ dy))
    np.testing.assert_allclose(correlate(csc_array(z), y).r, expected.astype(float), atol=1e-9)


def test_float32_activations_are_summed_in_float64():
    Z = sparse(300, 20, seed=3)
    Z.data += 1000
    single = csc_array(Z, dtype=np.float32)
    y = outcomes(300, seed=3)
    found = correlate(single, y)
    np.testing.assert_allclose(found.r, dense_r(csc_array(single, dtype=np.float64), y), atol=1e-9)
    np.testing.assert_allclose(found.c, single.toarray()[y > 0].astype(np.float64).mean(axis=0), rtol=1e-12)


def test_every_statistic_equals_dense_numpy():
    Z, y = sparse(50, 30, seed=4, density=0.1), np.random.default_rng(4).choice([0, 0.3, 0.5, 0.8, 1], size=50)
    Z.data[::3] *= -1
    z, found = Z.toarray(), correlate(Z, y)
    np.testing.assert_allclose(found.c, z[y > 0].mean(axis=0), atol=1e-12)
    np.testing.assert_array_equal(found.support, (z != 0).sum(axis=0))
    np.testing.assert_allclose(found.frequency, (z != 0).mean(axis=0))
    np.testing.assert_allclose(found.frequency_correct, (z[y > 0.5] != 0).mean(axis=0))
    np.testing.assert_allclose(found.frequency_incorrect, (z[y <= 0.5] != 0).mean(axis=0))


def test_statistics_by_hand():
    z = np.array([[0, 2.0, 0], [3, 2, 0], [1, 2, 0], [0, 2, 5]])
    found = correlate(csc_array(z), [0, 1, 1, 0])
    # z = 0 3 1 0 with mean 1: cov sum = (2 + 0)(.5) - (-1 - 1)(.5) = 2, lengths sqrt 6 and 1.
    np.testing.assert_allclose(found.r, [2 / math.sqrt(6), np.nan, -1 / math.sqrt(3)])
    np.testing.assert_allclose(found.c, [2, 2, 0])
    np.testing.assert_array_equal(found.support, [2, 4, 1])
    np.testing.assert_allclose(found.frequency_correct, [1, 1, 0])
    np.testing.assert_allclose(found.frequency_incorrect, [0, 1, 0.5])


def test_coefficient_counts_partial_successes_but_frequency_does_not():
    found = correlate(csc_array([[4.0], [2.0], [6.0]]), [0.0, 0.2, 0.9])
    assert found.c == [4.0]  # of 2 and 6
    assert found.frequency_incorrect == [1.0]
    assert found.frequency_correct == [1.0]


def test_constant_outcome_ranks_nothing():
    Z = sparse(40, 20, seed=5)
    for y in (np.zeros(40), np.ones(40), np.full(40, 0.1)):
        assert np.isnan(correlate(Z, y).r).all()
    assert np.isnan(correlate(Z, np.zeros(40)).c).all()
    assert np.isfinite(correlate(Z, np.ones(40)).c).all()
    assert np.isnan(correlate(Z, np.ones(40)).frequency_incorrect).all()


def test_constant_features_have_no_r_though_their_mean_is_rounded():
    z = np.tile(np.random.default_rng(40).random(200), (37, 1))
    assert (z.mean(axis=0) != z[0]).any()
    assert np.isnan(correlate(csc_array(z), outcomes(37, seed=40)).r).all()


def test_variance_below_what_a_float_holds_is_no_variance():
    assert np.isnan(correlate(csc_array([[1e-200], [2e-200], [0.0]]), [0, 1, 0]).r).all()


def test_r_of_the_outcome_itself_is_not_above_one():
    y = np.random.default_rng(41).random(30)
    z = np.outer(y, np.random.default_rng(42).random(200))
    found = correlate(csc_array(z), y).r
    np.testing.assert_allclose(found, 1, atol=1e-12)
    assert found.max() <= 1


def test_silent_and_constant_features_have_no_r():
    z = np.zeros((30, 4))
    z[:, 1] = 0.1  # its mean is not 0.1 to the last digit
    z[:, 2] = 0.1
    z[0, 2] = 0
    z[:, 3] = np.linspace(1, 2, 30)
    found = correlate(csc_array(z), outcomes(30, seed=6))
    np.testing.assert_array_equal(np.isnan(found.r), [True, True, False, False])
    assert found.c[0] == 0


def test_one_sample_has_no_r():
    assert np.isnan(correlate(csc_array([[1.0, 0.0]]), [1.0]).r).all()


def test_stored_zeros_and_duplicates_do_not_fire():
    # Column 0: 3 - 3 in row 0, 1 + 1 in row 2; column 1: a stored 0 in row 1.
    Z = csc_array((np.array([3.0, -3, 1, 1, 0]), np.array([0, 0, 2, 2, 1]), np.array([0, 4, 5])), shape=(3, 2))
    before = Z.data.copy()
    found = correlate(Z, [0, 1, 1])
    np.testing.assert_array_equal(found.support, [1, 0])
    np.testing.assert_array_equal(found.c, [1, 0])
    np.testing.assert_array_equal(Z.data, before)  # the caller's array is not tidied behind its back


def test_planted_feature_among_ten_thousand_is_found():
    Z, y = sparse(200, 10_000, seed=7, density=0.05), outcomes(200, seed=7)
    rng = np.random.default_rng(7)
    planted = np.where(rng.random(200) < 0.8, y, rng.random(200) < 0.3) * rng.gamma(8, size=200)
    Z = csc_array(np.hstack([Z.toarray(), planted[:, None]]))
    order = rng.permutation(10_001)
    r = correlate(Z[:, order], y).r
    assert order[np.nanargmax(r)] == 10_000


def test_memory_stays_far_below_the_dense_array():
    Z, y = sparse(500, 20_000, seed=8, density=0.002), outcomes(500, seed=8)  # dense: 80 MB; stored: 20,000 entries
    tracemalloc.start()
    correlate(Z, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1], "same samples"),
        ([[0], [1], [1]], "same samples"),
        ([0, 1, math.nan], "within"),
        ([1, 3, 5], "within"),
        ([0, -1, 1], "within"),
    ],
)
def test_outcomes_that_are_none_are_refused(y, message):
    with pytest.raises(CorrSteerError, match=message):
        correlate(csc_array(np.ones((3, 2))), y)


def test_no_samples_and_overflown_activations_are_refused():
    with pytest.raises(CorrSteerError, match="found none"):
        correlate(csc_array((0, 2)), [])
    with pytest.raises(CorrSteerError, match="overflowed"):
        correlate(csc_array([[math.inf], [1.0]]), [0, 1])


def test_is_constant():
    assert is_constant([])
    assert is_constant([0.3, 0.3])
    assert not is_constant([0.3, 0.3, 0.30001])


# --- what chance reaches -----------------------------------------------------------------------


def loop_maxima(
    Z_by_layer: dict[int, csc_array], y: np.ndarray, *, permutations: int, seed: int, floor: int
) -> np.ndarray:
    """max r of each layer under each permutation by corrcoef, one column at a time; (layers, permutations)."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(permutations):
        shuffled = rng.permutation(y)
        for Z in Z_by_layer.values():
            columns = [z for z in Z.toarray().T if (z != 0).sum() >= floor and z.min() < z.max()]
            found.append(max(np.corrcoef(z, shuffled)[0, 1] for z in columns))
    return np.array(found).reshape(permutations, len(Z_by_layer)).T


@pytest.fixture
def two_layers() -> tuple[dict[int, csc_array], np.ndarray]:
    """Two layers of unlike width; in the second, features that never are silent, one of them constant."""
    wide, narrow = sparse(30, 75, seed=9, density=0.15), sparse(30, 10, seed=10, density=0.3).toarray()
    narrow[:, 3] = 1e9 + np.random.default_rng(11).random(30)
    narrow[:, 4] = 0.1
    return {3: wide, 7: csc_array(narrow)}, outcomes(30, seed=12)


@pytest.mark.parametrize("block_bytes", [2**26, 8 * 30 * 4])  # one block; 4 permutations by 30 features at a time
def test_permutation_maxima_equal_a_loop(two_layers, block_bytes, monkeypatch):
    monkeypatch.setattr(sparse_columns, "BLOCK_BYTES", block_bytes)
    layers, y = two_layers
    found = permutation_levels(layers, y, permutations=23, seed=5, floor=4)
    expected = loop_maxima(layers, y, permutations=23, seed=5, floor=4)
    for layer, maxima in zip((3, 7), expected, strict=True):
        np.testing.assert_allclose(found.by_layer[layer].max_r, maxima, atol=1e-9)
    np.testing.assert_allclose(found.overall.max_r, expected.max(axis=0), atol=1e-9)
    assert found.by_layer[7].features == 9
    assert found.overall.features == 9 + found.by_layer[3].features


def test_floor_keeps_out_features_that_fired_twice(two_layers):
    y = outcomes(30, seed=12)
    z = np.zeros((30, 2))
    z[np.flatnonzero(y)[:2], 0] = 9.0
    z[:, 1] = np.random.default_rng(13).random(30)
    with_it = permutation_levels({0: csc_array(z)}, y, seed=0, floor=2)
    without = permutation_levels({0: csc_array(z)}, y, seed=0, floor=3)
    alone = permutation_levels({0: csc_array(z[:, 1:])}, y, seed=0, floor=0)
    assert (with_it.overall.features, without.overall.features) == (2, 1)
    np.testing.assert_array_equal(without.overall.max_r, alone.overall.max_r)
    assert (with_it.overall.max_r >= without.overall.max_r).all()
    assert (with_it.overall.max_r > without.overall.max_r).any()


def test_p_of_best_counts_ties_and_itself():
    maxima = chance.ChanceMaxima(np.array([0.1, 0.2, 0.3, 0.4]), 9, 0)
    assert maxima.p_of_best(0.3) == 3 / 5
    assert maxima.p_of_best(0.3 + 1e-15) == 3 / 5  # the same r but for rounding
    assert maxima.p_of_best(0.31) == 2 / 5
    assert maxima.p_of_best(0.9) == 1 / 5  # never 0: the data are one of the permutations
    assert maxima.p_of_best(-0.7) == 1.0
    assert math.isnan(maxima.p_of_best(math.nan))


@pytest.mark.parametrize(("permutations", "level"), [(19, 0.95), (200, 0.95), (99, 0.9), (57, 0.8)])
def test_r_above_the_level_is_significant_and_at_the_level_is_not(two_layers, permutations, level):
    found = permutation_levels(*two_layers, permutations=permutations, seed=1, floor=4, level=level).overall
    assert found.p_of_best(found.level_r + 1e-6) <= 1 - level + 1e-9 < found.p_of_best(found.level_r)


def test_p_of_best_of_pure_noise_is_uniform():
    p, uncorrected = [], []
    for seed in range(150):
        Z, y = sparse(30, 40, seed=seed), outcomes(30, seed=1000 + seed)
        best = np.nanmax(correlate(Z, y).r)
        p.append(permutation_levels({0: Z}, y, permutations=99, seed=seed, floor=0).p_of_best(best))
        uncorrected.append(scipy_stats.pearsonr(Z.toarray()[:, np.nanargmax(correlate(Z, y).r)], y).pvalue)
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.01
    assert scipy_stats.kstest(uncorrected, "uniform").pvalue < 1e-9  # the best of 40 always looks correlated


def test_planted_feature_beats_chance():
    Z, y = sparse(100, 50, seed=14).toarray(), outcomes(100, seed=14)
    Z[:, 17] = y * 3
    layers = {0: csc_array(Z[:, 25:]), 4: csc_array(Z[:, :25])}
    found = permutation_levels(layers, y, permutations=99, seed=2, floor=5)
    best = float(correlate(layers[4], y).r[17])
    assert found.p_of_best(best) == found.p_of_best(best, layer=4) == 1 / 100
    assert found.overall.level_r < 0.6
    assert found.overall.level_r >= found.by_layer[4].level_r


def test_layers_share_their_permutations():
    Z, y = sparse(40, 10, seed=15), outcomes(40, seed=15)
    found = permutation_levels({1: Z, 2: Z}, y, seed=3, floor=0)
    np.testing.assert_array_equal(found.by_layer[1].max_r, found.by_layer[2].max_r)
    np.testing.assert_array_equal(found.overall.max_r, found.by_layer[1].max_r)
    other = permutation_levels({1: Z}, y, seed=4, floor=0)
    assert not np.array_equal(other.overall.max_r, found.overall.max_r)


def test_a_layer_without_features_does_not_spoil_the_others():
    Z, y = sparse(40, 10, seed=16), outcomes(40, seed=16)
    found = permutation_levels({1: csc_array((40, 10)), 2: Z}, y, seed=3, floor=1)
    assert np.isnan(found.by_layer[1].max_r).all()
    assert math.isnan(found.p_of_best(0.5, layer=1))
    np.testing.assert_array_equal(found.overall.max_r, found.by_layer[2].max_r)


def test_constant_outcome_has_no_level():
    found = permutation_levels({1: sparse(40, 10, seed=17)}, np.ones(40), seed=3, floor=1)
    assert math.isnan(found.overall.level_r)
    assert math.isnan(found.p_of_best(0.5))


@pytest.mark.parametrize("arguments", [{"permutations": 18}, {"permutations": 50, "level": 0.99}, {"level": 1.0}])
def test_too_few_permutations_are_refused(two_layers, arguments):
    with pytest.raises(CorrSteerError, match="cannot show"):
        permutation_levels(*two_layers, seed=0, floor=1, **arguments)


def test_permutation_without_layers_is_refused():
    with pytest.raises(CorrSteerError, match="at least one layer"):
        permutation_levels({}, [0, 1], seed=0, floor=1)


# --- intervals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("block_bytes", [2**26, 8 * 40 * 7])
def test_bootstrap_equals_a_loop(block_bytes, monkeypatch):
    monkeypatch.setattr(sparse_columns, "BLOCK_BYTES", block_bytes)
    z, y = sparse(40, 4, seed=18, density=0.5).toarray(), outcomes(40, seed=18)
    y[5:15] = 0.3
    z[:, 3] += 1e7  # never silent: a large mean, a small variance
    found = bootstrap(csc_array(z), y, resamples=20, seed=6, level=0.8)
    # The same stream, however it is cut: a draw of all rows at once.
    draws = np.random.default_rng(6).integers(0, 40, size=(20, 40))
    r = [[np.corrcoef(z[draw, k], y[draw])[0, 1] for k in range(4)] for draw in draws]
    c = [z[draw][y[draw] > 0].mean(axis=0) for draw in draws]
    np.testing.assert_allclose(found.r, np.quantile(r, [0.1, 0.9], axis=0), atol=1e-7)
    np.testing.assert_allclose(found.c, np.quantile(c, [0.1, 0.9], axis=0), rtol=1e-9)
    np.testing.assert_array_equal(found.used, 20)


def test_bootstrap_leaves_out_resamples_without_r():
    y = outcomes(25, seed=19)
    z = np.zeros((25, 3))
    z[np.flatnonzero(y)[0], 0] = 1e4  # missed by (24 / 25)^25 = 36% of resamples
    z[:, 1] = 1e4
    z[np.flatnonzero(y)[0], 1] = 0  # silent once: as often constant, at a large value
    z[:, 2] = 7.1
    found = bootstrap(csc_array(z), y, resamples=600, seed=7)
    assert found.used[0] == found.used[1]
    assert found.used[0] / 600 == pytest.approx(1 - 0.96**25, abs=0.06)
    assert 0 < found.r.low[0] < found.r.high[0]
    np.testing.assert_allclose([found.r.low[1], found.r.high[1]], [-found.r.high[0], -found.r.low[0]], atol=1e-9)
    assert found.used[2] == 0
    assert np.isnan([found.r.low[2], found.r.high[2]]).all()
    assert found.c.low[2] == pytest.approx(7.1)


def test_bootstrap_sees_through_the_rounding_of_constant_resamples():
    few, many = np.random.default_rng(43).random((2, 50))
    rows = np.array([0, 0, 0, 1, 1, 1, 1])  # three samples of the rarer value: alone in (3 / 7)^7 = 0.3% of resamples
    found = bootstrap(csc_array(np.stack([few, many])[rows]), np.arange(7) / 7, resamples=3000, seed=8)
    drawn = rows[np.random.default_rng(8).integers(0, 7, size=(3000, 7))].sum(axis=1)
    assert np.sum(drawn == 0) > 2
    np.testing.assert_array_equal(found.used, np.sum((drawn > 0) & (drawn < 7)))


def test_bootstrap_survives_outcomes_that_hardly_vary():
    rng = np.random.default_rng(44)
    spread = rng.random(50)
    z = csc_array(spread[:, None] + rng.random((50, 3)))
    wide, narrow = (bootstrap(z, 0.7 + scale * spread, resamples=50, seed=9) for scale in (0.1, 1e-7))
    np.testing.assert_allclose(narrow.r, wide.r, atol=1e-6)


def test_bootstrap_of_the_outcome_itself_is_not_above_one():
    y = np.random.default_rng(45).random(30)
    found = bootstrap(csc_array(np.outer(y, np.arange(1.0, 50))), y, resamples=50, seed=10)
    np.testing.assert_allclose(found.r, 1, atol=1e-12)
    assert found.r.high.max() <= 1


def test_bootstrap_of_a_constant_outcome():
    found = bootstrap(sparse(20, 3, seed=20, density=0.5), np.zeros(20), seed=0, resamples=50)
    assert not found.used.any()
    assert np.isnan(found.r.low).all()
    assert np.isnan(found.c.high).all()


def test_bootstrap_covers_the_correlation_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(8), []
    for seed in range(60):
        y = (rng.random(150) < 0.5).astype(float)
        z = y[:, None] + rng.standard_normal((150, 5))  # r = .5 / sqrt(1.25)
        low, high = bootstrap(csc_array(z), y, resamples=200, seed=seed, level=0.9).r
        covered.append((low < 0.4472) & (high > 0.4472))
    assert 0.82 < np.mean(covered) < 0.96


@pytest.mark.parametrize("arguments", [{"resamples": 0}, {"level": 0.0}, {"level": 95}])
def test_bootstrap_refuses_settings_without_sense(arguments):
    with pytest.raises(CorrSteerError, match="bootstrap"):
        bootstrap(sparse(20, 3, seed=20), outcomes(20, seed=0), seed=0, **arguments)


# --- rankings to compare with ------------------------------------------------------------------


def test_rankings_equal_dense_numpy():
    Z, y = sparse(60, 12, seed=21, density=0.4), np.random.default_rng(21).random(60)
    y[:10] = 0.5  # no success
    z, success = Z.toarray(), y > 0.5
    right, wrong = z[success], z[~success]
    gap = right.mean(axis=0) - wrong.mean(axis=0)
    np.testing.assert_allclose(RANKINGS["pearson_r"](Z, y), dense_r(Z, y), atol=1e-9)
    np.testing.assert_allclose(RANKINGS["difference_of_means"](Z, y), gap, atol=1e-12)
    np.testing.assert_allclose(RANKINGS["fisher_ratio"](Z, y), gap**2 / (right.var(axis=0) + wrong.var(axis=0)))
    tables = [np.histogram2d(column != 0, success, bins=2)[0] / 60 for column in z.T]
    parts = [(t.sum(0), t.sum(1), t.ravel()) for t in tables]
    expected = [scipy_stats.entropy(a) + scipy_stats.entropy(b) - scipy_stats.entropy(ab) for a, b, ab in parts]
    np.testing.assert_allclose(RANKINGS["mutual_information"](Z, y), expected, atol=1e-12)


def test_difference_of_means_follows_r_for_binary_outcomes():
    Z, y = sparse(60, 12, seed=22, density=0.4), outcomes(60, seed=22)
    # r = (mean1 - mean0) x sqrt(p q) / sd(z), the point-biserial correlation.
    scaled = RANKINGS["difference_of_means"](Z, y) * y.std() / Z.toarray().std(axis=0)
    np.testing.assert_allclose(RANKINGS["pearson_r"](Z, y), scaled, atol=1e-12)


def test_mutual_information_by_hand():
    z = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]])
    # Fired as the outcome: its entropy, ln 2. Independent of it, always and never fired: 0.
    found = RANKINGS["mutual_information"](csc_array(z.astype(float)), [1, 1, 0, 0])
    np.testing.assert_allclose(found, [math.log(2), 0, 0, 0], atol=1e-15)


def test_mutual_information_is_never_negative():
    # Every count of fired samples, spread over successes and failures as evenly as chance has it.
    for cycle in range(2, 12):
        z, y = np.repeat(np.tri(11), cycle, axis=0), np.tile(np.arange(cycle) > 0, 11)
        found = RANKINGS["mutual_information"](csc_array(z), y)
        np.testing.assert_allclose(found, 0, atol=1e-12)
        assert found.min() >= 0


def test_fisher_ratio_of_a_perfect_separator_is_infinite_and_of_a_constant_undefined():
    levels = np.random.default_rng(46).random((2, 100))
    success = np.arange(37) < 14
    separators, constants = np.where(success[:, None], *levels), np.tile(levels[0], (37, 1))
    silent = np.zeros((37, 1))
    found = RANKINGS["fisher_ratio"](csc_array(np.hstack([separators, constants, silent])), success)
    np.testing.assert_array_equal(found, np.repeat([np.inf, np.nan], [100, 101]))


@pytest.mark.parametrize("name", RANKINGS)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_no_ranking_scores_a_one_sided_outcome(name, y):
    assert np.isnan(RANKINGS[name](sparse(40, 20, seed=23), np.full(40, y))).all()


@pytest.mark.parametrize("name", RANKINGS)
def test_every_ranking_finds_a_planted_feature(name):
    z, y = sparse(150, 60, seed=24).toarray(), outcomes(150, seed=24)
    rng = np.random.default_rng(24)
    z[:, 31] = np.where(rng.random(150) < 0.85, y, 1 - y) * (4 + rng.random(150))
    assert np.nanargmax(RANKINGS[name](csc_array(z), y)) == 31


# --- how many samples are enough ---------------------------------------------------------------


def test_convergence_equals_a_loop():
    layers, y = {2: sparse(80, 30, seed=25), 5: sparse(80, 20, seed=26)}, outcomes(80, seed=25)
    z = np.hstack([layers[2].toarray(), layers[5].toarray()])
    order = np.random.default_rng(9).permutation(80)

    def part(size: int, floor: int) -> np.ndarray:
        kept = z[order[:size]]
        r = dense_r(csc_array(kept), y[order[:size]])
        return np.where((kept != 0).sum(axis=0) >= floor, r, np.nan)

    def best(r: np.ndarray) -> list[int]:
        return [int(i) for i in np.argsort(-r)[:6] if not np.isnan(r[i])]

    final = best(part(80, 4))
    points = convergence(layers, y, [20, 40, 80], seed=9, top=6, floor=4)
    for point in points:
        mine = set(best(part(point.size, 4)))
        assert point.overlap == pytest.approx(len(mine & set(final)) / len(mine | set(final)))
        assert point.best_r == pytest.approx(part(point.size, 0)[final[0]], abs=1e-9)
    assert [point.size for point in points] == [20, 40, 80]
    assert points[0].overlap < 1


def test_convergence_ends_in_agreement_with_itself():
    layers, y = {0: sparse(60, 40, seed=27)}, outcomes(60, seed=27)
    (point,) = convergence(layers, y, [60], seed=0, top=5, floor=3)
    assert point.overlap == 1
    assert point.best_r == pytest.approx(np.nanmax(correlate(layers[0], y).r))


def test_convergence_finds_a_planted_feature_early():
    z, y = sparse(200, 60, seed=28).toarray(), outcomes(200, seed=28)
    z[:, 8] = 2 * y
    points = convergence({1: csc_array(z)}, y, [30, 100], seed=1, top=1, floor=3)
    assert [(point.overlap, point.best_r) for point in points] == [(1, pytest.approx(1)), (1, pytest.approx(1))]


def test_convergence_before_any_success_has_nothing_in_common():
    Z = sparse(60, 40, seed=29)
    y = np.zeros(60)
    y[np.random.default_rng(2).permutation(60)[30:]] = 1
    first, last = convergence({0: Z}, y, [30, 60], seed=2, top=5, floor=1)
    assert first.overlap == 0
    assert math.isnan(first.best_r)
    assert last.overlap == 1


def test_convergence_of_a_constant_outcome_is_undefined():
    (point,) = convergence({0: sparse(20, 10, seed=30)}, np.ones(20), [10], seed=0, top=5, floor=1)
    assert math.isnan(point.overlap)
    assert math.isnan(point.best_r)


def test_convergence_applies_the_floor_at_every_size():
    y = outcomes(40, seed=31)
    z = np.zeros((40, 2))
    z[:, 0] = np.random.default_rng(31).random(40)
    z[np.flatnonzero(y)[:6], 1] = 1  # 6 of 40: enough in all samples, not in the first 10
    first, last = convergence({0: csc_array(z)}, y, [10, 40], seed=3, top=2, floor=6)
    assert first.overlap == 0.5
    assert last.overlap == 1


@pytest.mark.parametrize(("sizes", "top"), [([0], 3), ([21], 3), ([10], 0)])
def test_convergence_refuses_sizes_there_are_not(sizes, top):
    with pytest.raises(CorrSteerError, match="Sizes"):
        convergence({0: sparse(20, 10, seed=30)}, outcomes(20, seed=0), sizes, seed=0, top=top, floor=1)
