"""offset.py against scipy's optimiser, finite differences and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import offset


def made(seed, n=120, k=3, skew=0.0):
    """Log-probabilities of a model that leans to class 0 by `skew`, and the right classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k)) + 2 * np.eye(k)[y] + skew * np.eye(k)[0]
    return log_softmax(logits, axis=1), y


def objective(b, logp, y, ridge=1e-3):
    """The documented objective, written without the module."""
    return log_softmax(logp + b, axis=1)[np.arange(len(y)), y].sum() - ridge / 2 * np.sum(np.square(b))


@pytest.mark.parametrize("k", [2, 3, 4, 7])
@pytest.mark.parametrize("skew", [0.0, 3.0, -2.0])
def test_the_offset_is_where_scipy_finds_the_maximum(k, skew):
    logp, y = made(k, k=k, skew=skew)
    expected = minimize(lambda b: -objective(b, logp, y), np.zeros(k), method="BFGS", options={"gtol": 1e-8})
    assert offset.fit_offset(logp, y) == pytest.approx(expected.x, abs=1e-5)


def test_the_maximum_is_found_to_the_last_digits():
    logp, y = made(1, skew=2)
    b = offset.fit_offset(logp, y)
    slopes = [(objective(b + h, logp, y) - objective(b - h, logp, y)) / 2e-4 for h in 1e-4 * np.eye(3)]
    assert slopes == pytest.approx([0, 0, 0], abs=1e-6)


def test_two_classes_equal_a_logistic_regression_with_one_constant():
    logp, y = made(2, k=2, skew=1.5)
    margin = logp[:, 1] - logp[:, 0]
    # d/db sum log sigmoid = 0: the predicted share of class 1 is its true share; only the ridge keeps it from being exact.
    b = offset.fit_offset(logp, y, ridge=1e-9)
    assert np.mean(1 / (1 + np.exp(-(margin + b[1] - b[0])))) == pytest.approx(y.mean(), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_its_numbers_sum_to_0_and_a_constant_per_sample_changes_nothing(seed):
    logp, y = made(seed, skew=seed)
    b = offset.fit_offset(logp, y)
    assert b.sum() == pytest.approx(0, abs=1e-12)
    moved = logp + np.random.default_rng(seed).normal(scale=20, size=(len(y), 1))
    assert offset.fit_offset(moved, y) == pytest.approx(b, abs=1e-7)


def test_an_offset_that_was_added_is_taken_off_again():
    logp, y = made(4)
    added = np.array([1.5, -2.0, 0.5])
    nearly_none = 1e-9
    difference = offset.fit_offset(logp, y, nearly_none) - offset.fit_offset(logp + added, y, nearly_none)
    assert difference == pytest.approx(added, abs=1e-6)


def test_after_fitting_every_class_is_predicted_as_often_as_it_is_right():
    logp, y = made(5, n=400, k=4, skew=4)
    p = np.exp(log_softmax(logp + offset.fit_offset(logp, y), axis=1))
    assert p.sum(axis=0) == pytest.approx(np.bincount(y, minlength=4), abs=0.01)


def test_a_class_that_is_never_right_gets_a_finite_number_and_is_never_said():
    logp, y = made(6, k=3)
    few = y < 2
    b = offset.fit_offset(logp[few], y[few])
    assert np.isfinite(b).all()
    assert b[2] < -4
    expected = minimize(lambda v: -objective(v, logp[few], y[few]), np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    assert b == pytest.approx(expected.x, abs=1e-3)
    assert 2 not in offset.apply_offset(logp[few], b)


def test_all_samples_of_one_class_and_extreme_log_probabilities_still_converge():
    logp = np.array([[-1e-9, -800.0], [-300.0, -1e-12], [-0.7, -0.7]])
    for y in ([0, 0, 0], [1, 1, 1], [1, 0, 1]):
        b = offset.fit_offset(logp, np.array(y))
        assert np.isfinite(b).all()
        near = [objective(b + h, logp, np.array(y)) for h in 1e-2 * np.array([[1, -1], [-1, 1], [1, 1], [-1, -1]])]
        assert max(near) <= objective(b, logp, np.array(y))


def test_one_class_alone_has_the_offset_0():
    assert offset.fit_offset([[-1.0], [-2.0]], [0, 0]).tolist() == [0.0]


def test_a_class_that_samples_lack_takes_no_part_in_them():
    logp, y = made(7, n=200, k=3, skew=1)
    three = y < 3
    padded = np.column_stack([logp, np.full(len(y), -np.inf)])
    ridge = 1e-9
    with_mask = offset.fit_offset(padded, y, ridge)
    assert with_mask[:3] - with_mask[:3].mean() == pytest.approx(
        offset.fit_offset(logp[three], y[three], ridge), abs=1e-5
    )


def test_a_mixture_of_samples_with_three_and_four_classes_is_at_its_maximum():
    logp, y = made(8, n=200, k=4, skew=-1)
    lacks = (y < 3) & (np.arange(200) % 2 == 0)
    logp[lacks, 3] = -np.inf
    b = offset.fit_offset(logp, y)
    expected = minimize(lambda v: -objective(v, logp, y), np.zeros(4), method="BFGS", options={"gtol": 1e-8})
    assert b == pytest.approx(expected.x, abs=1e-5)
    assert 3 not in offset.apply_offset(logp, b)[lacks]


def test_a_planted_prior_shift_is_undone():
    """The model knows the answer but leans to class 0; the offset fitted on one half corrects the other."""
    logp, y = made(9, n=2000, k=2, skew=3)
    b = offset.fit_offset(logp[:1000], y[:1000])
    before = np.mean(logp[1000:].argmax(axis=1) == y[1000:])
    after = np.mean(offset.apply_offset(logp[1000:], b) == y[1000:])
    unbiased = np.mean((logp[1000:] - [3, 0]).argmax(axis=1) == y[1000:])
    assert before < 0.75
    assert after == pytest.approx(unbiased, abs=0.02)


def test_ties_go_to_the_first_class():
    assert offset.apply_offset([[-1.0, -1.0, -2.0], [-3.0, -1.0, -1.0]], [0, 0, 0]).tolist() == [0, 1]
    assert offset.apply_offset([[-1.0, -2.0]], [0.0, 1.0]).tolist() == [0]


def test_margins_by_hand():
    logp = [[-1.0, -1.0, -2.0], [-0.5, -3.0, -np.inf], [-np.inf, -1.0, -np.inf]]
    assert offset.margins(logp).tolist() == [0.0, 2.5, np.inf]
    assert offset.margins(logp, [0.5, -0.5, 0.0]).tolist() == [1.0, 3.5, np.inf]
    assert offset.margins([[-1.0]]).tolist() == [np.inf]


def test_a_fitted_offset_names_its_classes_and_predicts():
    logp, y = made(10, k=2, skew=2)
    found = offset.fitted(["Positive", "Negative"], logp, y)
    assert found.names == ("Positive", "Negative")
    assert found.bias == pytest.approx(offset.fit_offset(logp, y), abs=0)
    assert np.array_equal(found.predict(logp), offset.apply_offset(logp, found.bias))


@pytest.mark.parametrize(
    ("names", "bias"),
    [(("A",), (1.0, -1.0)), (("A", "A"), (1.0, -1.0)), (("A", "B"), (1.0, 1.0)), (("A", "B"), (np.nan, 0.0))],
)
def test_an_offset_that_cannot_be_is_refused(names, bias):
    with pytest.raises(CorrSteerError, match="offset"):
        offset.Offset(names, bias)


@pytest.mark.parametrize(
    ("logp", "y", "message"),
    [
        ([[-1.0, -1.0]], [2], "from 0 to 1"),
        ([[-1.0, -1.0]], [-1], "from 0 to 1"),
        ([[-1.0, -1.0]], [0.5], "whole numbers"),
        ([[-1.0, -np.inf]], [1], "Sample 0 lacks its own right class"),
        ([[-np.inf, -np.inf]], [0], "no class that is possible"),
        ([[-1.0, np.nan]], [0], "not a number"),
        ([[-1.0, -1.0]], [0, 1], "same samples"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "found none"),
        ([-1.0, -1.0], [0], "shape"),
    ],
)
def test_what_is_no_set_of_class_probabilities_is_refused(logp, y, message):
    with pytest.raises(CorrSteerError, match=message):
        offset.fit_offset(logp, y)


def test_a_ridge_must_be_positive_and_an_offset_must_fit():
    with pytest.raises(CorrSteerError, match="ridge"):
        offset.fit_offset([[-1.0, -1.0]], [0], ridge=0)
    with pytest.raises(CorrSteerError, match="each of 2 classes"):
        offset.apply_offset([[-1.0, -1.0]], [0, 0, 0])
