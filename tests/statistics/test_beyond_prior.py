"""beyond_prior.py on planted data: a shift leaves nothing, a separation stays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from statsmodels.stats.contingency_tables import mcnemar

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.beyond_prior import paired_rates
from corrsteer_core.statistics.offset import fitted


def made(seed, n=300, skew=2.0, signal=1.0):
    """A model that leans to class 0 by `skew` nats and knows something: (n, 2) log-odds, and the right classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return rng.normal(size=(n, 2)) + signal * np.eye(2)[y] + skew * np.eye(2)[0], y


def beyond_prior(names, validation, test):
    """Both offsets fitted on validation and compared on test, as a measurement does it; each is (unsteered, steered, y)."""
    unsteered, steered, y = validation
    offsets = fitted(names, unsteered, y, 1e-3), fitted(names, steered, y, 1e-3)
    before, after, right = test
    plain = before.argmax(axis=1) == right, after.argmax(axis=1) == right
    moved = offsets[0].predict(before) == right, offsets[1].predict(after) == right
    return SimpleNamespace(
        unsteered_offset=offsets[0],
        steered_offset=offsets[1],
        raw=paired_rates(*plain),
        offset_alone=paired_rates(plain[0], moved[0]),
        beyond=paired_rates(*moved),
    )


def compare(seed, change):
    (validation, y), (test, z) = made(seed), made(seed + 1000)
    steered = change(validation, y), change(test, z)
    return beyond_prior(["A", "B"], (validation, steered[0], y), (test, steered[1], z))


def test_a_shift_gains_and_leaves_exactly_nothing_beyond_the_prior():
    for seed in range(20):
        found = compare(seed, lambda logp, _: logp + np.array([-1.0, 1.0]))
        assert found.raw.effect > 0.05
        assert abs(found.beyond.effect) <= 1 / 300 + 1e-12  # the ridge may move one sample
        assert found.beyond.p == 1
        difference = np.subtract(found.unsteered_offset.bias, found.steered_offset.bias)
        assert difference == pytest.approx([-1, 1], abs=0.01)


def test_a_separation_is_left_beyond_the_prior():
    shown = 0
    for seed in range(20):
        found = compare(seed, lambda logp, y: logp + 1.5 * np.eye(2)[y])
        shown += found.beyond.p < 0.05 and found.beyond.effect > 0
        assert (found.beyond.interval.low > 0) == (found.beyond.p < 0.05 and found.beyond.effect > 0)
    assert shown >= 19


def test_every_number_equals_one_counted_by_hand():
    (validation, y), (test, z) = made(1, n=90), made(2, n=80)
    steered = validation + np.random.default_rng(0).normal(size=validation.shape)
    steered_test = test + np.random.default_rng(1).normal(size=test.shape)
    found = beyond_prior(["A", "B"], (validation, steered, y), (test, steered_test, z))

    def right(fit_on, on):
        """With two classes the offset is one threshold t: b = (-t / 2, t / 2)."""
        margin, sign = fit_on[:, 1] - fit_on[:, 0], 2 * y - 1

        def loss(t):
            return np.log1p(np.exp(-sign * (margin + t))).sum() + 1e-3 / 2 * t * t / 2

        t = minimize_scalar(loss, options={"xtol": 1e-10}).x
        return ((on[:, 1] - on[:, 0] + t) > 0) == z

    before, after, plain = right(validation, test), right(steered, steered_test), test.argmax(axis=1) == z
    assert (found.beyond.before, found.beyond.after) == (before.mean(), after.mean())
    assert (found.beyond.flips.positive, found.beyond.flips.negative) == (
        np.sum(after & ~before),
        np.sum(before & ~after),
    )
    table = [[np.sum(before & after), np.sum(before & ~after)], [np.sum(~before & after), np.sum(~before & ~after)]]
    assert found.beyond.p == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert (found.offset_alone.before, found.offset_alone.after) == (plain.mean(), before.mean())
    assert found.raw.after == np.mean(steered_test.argmax(axis=1) == z)
    assert found.beyond.effect == pytest.approx(after.mean() - before.mean())


def test_a_right_class_that_is_not_there_is_refused():
    logp, y = made(3, n=10)
    with pytest.raises(CorrSteerError, match="Right classes"):
        fitted(["A", "B"], logp, y + 1, 1e-3)
