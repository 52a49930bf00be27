"""clusters.py: equal to the plain test for clusters of one, and honest where samples of a cluster go together."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import clusters, graded, resampling
from corrsteer_core.statistics.rates import mcnemar_p


def test_clusters_of_one_sample_are_the_plain_test():
    rng = np.random.default_rng(0)
    before, after = rng.random(50), rng.random(50)
    plain = graded.graded_change(before, after, seed=3)
    found = clusters.clustered_change(before, after, [f"item {i}" for i in range(50)], seed=3)
    assert (found.mean, found.p, found.exact) == (plain.mean, plain.p, plain.exact)
    assert found.interval == pytest.approx(plain.interval, abs=1e-12)
    assert (found.clusters, found.samples) == (50, 50)


def test_the_test_of_paired_outcomes_goes_by_what_they_are():
    rng = np.random.default_rng(2)
    before, after = rng.integers(0, 2, (2, 60)).astype(float)
    up, down = int((after > before).sum()), int((after < before).sum())
    found = clusters.paired_test(before, after)
    assert (found.test, found.clusters) == ("mcnemar", None)
    assert found.p == pytest.approx(stats.binomtest(up, up + down).pvalue)
    assert (found.interval.low > 0 or found.interval.high < 0) == (found.p < 0.05)
    alone = clusters.paired_test(before, after, [f"item {n}" for n in range(60)])
    assert alone == found, "clusters of one are no clusters"
    graded_ones = clusters.paired_test(before * 0.5, after)
    plain = graded.graded_change(before * 0.5, after, seed=0)
    assert (graded_ones.test, graded_ones.p, graded_ones.interval) == ("sign flip", plain.p, plain.interval)
    names = rng.integers(0, 12, 60).tolist()
    of_clusters = clusters.paired_test(before, after, names)
    expected = clusters.clustered_change(before, after, names, seed=0)
    assert (of_clusters.test, of_clusters.clusters) == ("clusters", len(set(names)))
    assert (of_clusters.p, of_clusters.interval) == (expected.p, expected.interval)


def test_a_cluster_is_flipped_as_a_whole():
    before = np.zeros(9)
    after = np.array([1, 1, 1, 1, 0, 1, 1, 0, 0])
    names = ["a", "a", "a", "b", "b", "c", "c", "d", "d"]
    sums = [3, 1, 2, 0]
    expected = np.mean([abs(np.dot(signs, sums)) >= 6 for signs in product((-1, 1), repeat=4)])
    assert clusters.clustered_change(before, after, names, seed=0).p == pytest.approx(expected)


def test_the_bootstrap_draws_whole_clusters():
    rng = np.random.default_rng(1)
    before, after, names = rng.random(60), rng.random(60), rng.integers(0, 12, 60)
    members = [np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())]
    weights = np.concatenate(list(resampling.weight_blocks(200, len(members), seed=5))).astype(int)
    means = []
    for row in weights:
        drawn = np.concatenate([members[i] for i in np.repeat(np.arange(len(members)), row)])
        means.append(np.mean((after - before)[drawn]))
    found = clusters.clustered_change(before, after, names.tolist(), seed=5, resamples=200)
    assert found.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)
    assert found.mean == pytest.approx(np.mean(after - before))


def test_copies_of_samples_add_no_evidence():
    """Ten copies of each sample: McNemar's p shrinks to nothing, the clustered one stays that of the originals."""
    before, after = np.array([0] * 7 + [1] * 3), np.array([1] * 7 + [0] * 3)
    copied = clusters.clustered_change(np.tile(before, 10), np.tile(after, 10), list(range(10)) * 10, seed=0)
    assert copied.p == mcnemar_p(7, 3)
    assert mcnemar_p(70, 30) < 0.001
    alone = clusters.clustered_change(before, after, list(range(10)), seed=0)
    assert copied.interval == pytest.approx(alone.interval, abs=1e-12)


def test_where_clusters_go_together_it_errs_as_seldom_as_it_says_and_the_plain_test_does_not():
    rng = np.random.default_rng(2)
    names = np.repeat(np.arange(15), 8)
    clustered, plain = [], []
    for seed in range(200):
        up = rng.random(15) < 0.5
        after = np.where(up[names], 1, 0)
        found = clusters.clustered_change(1 - after, after, names.tolist(), seed=seed, resamples=20)
        clustered.append(found.p < 0.05)
        plain.append(mcnemar_p(int(after.sum()), int((1 - after).sum())) < 0.05)
    assert np.mean(clustered) < 0.08
    assert np.mean(plain) > 0.3


def test_sums_that_cancel_within_a_cluster_count_as_0():
    before, after = [0.0, 0.3, 0.1, 0.0], [0.3, 0.1, 0.0, 0.5]  # the first three: .3 - .2 - .1
    found = clusters.clustered_change(before, after, ["a", "a", "a", "b"], seed=0)
    assert found.p == 1
    assert found.clusters == 2


def test_one_cluster_shows_nothing():
    found = clusters.clustered_change([0, 0, 0], [1, 1, 1], ["x"] * 3, seed=0)
    assert (found.p, found.interval, found.clusters) == (1.0, None, 1)


def test_every_sample_needs_a_cluster():
    with pytest.raises(CorrSteerError, match="cluster"):
        clusters.clustered_change([0, 1], [1, 1], ["a"], seed=0)
    with pytest.raises(CorrSteerError, match="Outcomes"):
        clusters.clustered_change([], [], [], seed=0)


def test_numbers_follow_the_first_appearance():
    assert clusters.cluster_numbers(["b", "a", "b", ("c", 1)]).tolist() == [0, 1, 0, 2]


def test_many_clusters_that_cancel_leave_few_to_count_exactly():
    before, after = [0.0, 0.0, 0.3] * 30, [0.1, 0.2, 0.0] * 30  # +.1 + .2 - .3 is not 0 in floating point
    names = [f"cancels {i}" for i in range(30) for _ in range(3)]
    found = clusters.clustered_change([*before, 0, 0, 0], [*after, 0.5, 0.4, 0.3], [*names, "x", "y", "z"], seed=0)
    assert found.exact
    assert found.p == 0.25  # two of the eight sign patterns of x, y, z
