"""Paired outcomes of samples that come in clusters: items made from one template, questions about one text.

What happens to one sample of a cluster tends to happen to the others, so n samples tell less than n independent ones and a
test that takes them for independent finds too much. Here a cluster is flipped and drawn as a whole: the sign-flip test on
the clusters' sums, and the cluster bootstrap (Cameron, Gelbach & Miller 2008, Rev. Econ. Stat. 90:414-427; Davison &
Hinkley 1997, section 3.8). With one sample per cluster both are `graded.graded_change`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.graded import graded_change, paired_differences, sign_flip
from corrsteer_core.statistics.paired import difference_interval
from corrsteer_core.statistics.rates import Interval, flips, mcnemar_p
from corrsteer_core.statistics.resampling import percentile_interval, weight_blocks


@dataclass(frozen=True)
class ClusteredChange:
    """Mean over samples of after - before; interval (None for one cluster) and p take clusters for the independent units."""

    mean: float
    interval: Interval | None
    p: float
    exact: bool
    clusters: int
    samples: int


def clustered_change(
    before: ArrayLike,
    after: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> ClusteredChange:
    """Compare outcomes in [0, 1] of the same samples, (n,) each, whose cluster is named in `clusters`, (n,).

    In a resample the mean is (sum of the drawn clusters' sums) / (number of their samples). Raises CorrSteerError for no
    samples, lengths that differ, or outcomes outside [0, 1].
    """
    difference = paired_differences(before, after)
    member = cluster_numbers(clusters)
    if len(member) != len(difference):
        raise CorrSteerError(f"Every sample needs a cluster; found {len(member)} for {len(difference)} samples.")
    sums, sizes = np.bincount(member, weights=difference), np.bincount(member).astype(np.float64)
    means = [(weights @ sums) / (weights @ sizes) for weights in weight_blocks(resamples, len(sums), seed)]
    interval = percentile_interval(np.concatenate(means), level) if len(sums) > 1 else None
    test = sign_flip(np.where(np.abs(sums) < 1e-12, 0.0, sums), seed=seed)  # sums that cancel are 0 but for rounding
    return ClusteredChange(float(difference.mean()), interval, test.p, test.exact, len(sums), len(difference))


@dataclass(frozen=True)
class PairedTest:
    """Two outcomes of the same samples compared: p, the 95% interval of the mean difference, and which test it was."""

    p: float
    interval: Interval | None
    test: Literal["mcnemar", "sign flip", "clusters"]
    clusters: int | None = None


def paired_test(
    before: ArrayLike, after: ArrayLike, clusters: Sequence[Hashable] = (), *, seed: int = 0, level: float = 0.95
) -> PairedTest:
    """The one test of paired outcomes, (n,) in [0, 1] each, by what they are.

    With `clusters`, one name a sample and fewer different ones than samples, clusters are the units; else McNemar's exact
    test for outcomes of 0 and 1, with the interval that agrees with it, and the sign-flip test for graded ones.
    """
    if len(set(clusters)) < len(clusters):
        found = clustered_change(before, after, clusters, seed=seed, level=level)
        return PairedTest(found.p, found.interval, "clusters", found.clusters)
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if np.isin(np.concatenate([first, second]), (0.0, 1.0)).all():
        counted = flips(first, second)
        p = mcnemar_p(counted.positive, counted.negative)
        return PairedTest(p, difference_interval(counted.positive, counted.negative, counted.n, level), "mcnemar")
    change = graded_change(first, second, seed=seed, level=level)
    return PairedTest(change.p, change.interval, "sign flip")


def cluster_numbers(clusters: Sequence[Hashable]) -> np.ndarray:
    """0, 1, 2, ... for each different name, in the order in which they first come: (n,)."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.int64)
