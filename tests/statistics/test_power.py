"""power.py against sums over all outcomes, simulation and published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import multinomial, norm

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import power, rates


def by_enumeration(p_pos, p_neg, n, alpha):
    """Power as the sum of the probabilities of all (up, down) that the test of rates.py rejects."""
    cells = [(b, c) for b in range(n + 1) for c in range(n + 1 - b) if rates.mcnemar_p(b, c) < alpha]
    counts = np.array([[b, c, n - b - c] for b, c in cells])
    return multinomial.pmf(counts, n, [p_pos, p_neg, 1 - p_pos - p_neg]).sum()


@pytest.mark.parametrize(("p_pos", "p_neg", "n"), [(0.3, 0.05, 25), (0.1, 0.4, 30), (0.2, 0.2, 40), (0.5, 0.5, 12)])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_power_equals_the_sum_over_all_outcomes(p_pos, p_neg, n, alpha):
    expected = by_enumeration(p_pos, p_neg, n, alpha)
    assert power.mcnemar_power(p_pos, p_neg, n, alpha) == pytest.approx(expected, abs=1e-12)


def test_power_equals_simulation_for_many_samples():
    up, down, _ = np.random.default_rng(0).multinomial(400, [0.12, 0.06, 0.82], size=4000).T
    simulated = np.mean([rates.mcnemar_p(int(b), int(c)) < 0.05 for b, c in zip(up, down, strict=True)])
    assert power.mcnemar_power(0.12, 0.06, 400) == pytest.approx(simulated, abs=0.025)


def test_without_an_effect_power_is_at_most_alpha():
    assert all(power.mcnemar_power(p, p, n) <= 0.05 for p in (0.01, 0.1, 0.3, 0.5) for n in (1, 5, 20, 100, 1000))


def test_no_flips_or_no_samples_show_nothing():
    assert power.mcnemar_power(0, 0, 100) == 0
    assert power.mcnemar_power(0.5, 0.1, 0) == 0
    assert power.mcnemar_power(1, 0, 5) == 0  # five of five: p .0625
    assert power.mcnemar_power(1, 0, 6) == 1


@pytest.mark.parametrize(("p_pos", "p_neg"), [(0.2, 0.05), (0.05, 0.2), (0.1, 0.08), (0.9, 0.1), (0.02, 0)])
@pytest.mark.parametrize("wanted", [0.8, 0.95])
def test_the_number_needed_reaches_the_power_and_one_less_does_not(p_pos, p_neg, wanted):
    n = power.samples_needed(p_pos, p_neg, wanted)
    assert power.mcnemar_power(p_pos, p_neg, n) >= wanted
    assert power.mcnemar_power(p_pos, p_neg, n - 1) < wanted


@pytest.mark.parametrize(("p_pos", "p_neg"), [(0.2, 0.05), (0.1, 0.08), (0.02, 0.001), (0.3, 0.28)])
def test_the_exact_number_is_a_little_above_connors(p_pos, p_neg):
    n, connor = power.samples_needed(p_pos, p_neg), power.connor_samples(p_pos, p_neg)
    assert connor < n < 1.3 * connor + 10


def test_connors_formula_by_hand():
    z, d, f = norm.ppf(0.975), 0.15, 0.25
    expected = ((z * math.sqrt(f) + norm.ppf(0.8) * math.sqrt(f - d * d)) / d) ** 2
    assert power.connor_samples(0.2, 0.05) == pytest.approx(expected, rel=1e-12)
    assert power.connor_samples(0.1, 0.1) == math.inf


def test_equal_shares_need_more_samples_than_there_are():
    assert power.samples_needed(0.1, 0.1) is None
    assert power.samples_needed(0, 0) is None


def test_a_tiny_effect_needs_millions_and_is_found_at_once():
    n = power.samples_needed(0.1005, 0.0995)
    assert n == pytest.approx(power.connor_samples(0.1005, 0.0995), rel=0.01)


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (0.6, 0.5), (float("nan"), 0.1)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(CorrSteerError, match="Shares of flips"):
        power.samples_needed(*shares)


def test_impossible_levels_are_refused():
    with pytest.raises(CorrSteerError, match="Power"):
        power.samples_needed(0.2, 0.1, power=1)
    with pytest.raises(CorrSteerError, match="Alpha"):
        power.mcnemar_power(0.2, 0.1, 10, alpha=5)
