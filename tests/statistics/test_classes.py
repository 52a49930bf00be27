"""classes.py against scikit-learn and tables counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import classes
from corrsteer_core.statistics.classes import NO_CHOICE, ClassChange, ConfusionTable, parted


@pytest.mark.parametrize("k", [2, 3, 5])
def test_counts_and_rates_equal_scikit_learn(k):
    rng = np.random.default_rng(k)
    right, answered = rng.integers(0, k, 200), rng.integers(-1, k, 200)
    table = classes.confusion([f"class {i}" for i in range(k)], right, answered)
    moved = np.where(answered == NO_CHOICE, k, answered)
    assert np.array_equal(table.array, confusion_matrix(right, moved, labels=range(k + 1))[:k])
    assert table.rate == pytest.approx(accuracy_score(right, answered))
    choice = answered != NO_CHOICE
    chosen = classes.confusion(table.names, right[choice], answered[choice])
    assert chosen.rates.mean() == pytest.approx(balanced_accuracy_score(right[choice], answered[choice]))
    assert table.no_choice_share == pytest.approx(1 - choice.mean())
    assert table.n == 200


def test_a_table_by_hand():
    table = classes.confusion(["Positive", "Negative"], [0, 0, 0, 1, 1], [0, 0, 1, 0, NO_CHOICE])
    assert table.counts == ((2, 1, 0), (1, 0, 1))
    assert table.rates.tolist() == pytest.approx([2 / 3, 0])
    assert table.rate == 0.4
    assert table.right.tolist() == [2, 0]
    assert table.no_choice_share == 0.2
    assert table.majority_answer == ("Positive", 0.6)
    assert table.majority_class == ("Positive", 0.6)


def test_ties_for_the_majority_go_to_the_first_class():
    table = classes.confusion(["A", "B"], [0, 1], [1, 0])
    assert table.majority_answer == ("A", 0.5)
    assert table.majority_class == ("A", 0.5)


def test_what_is_undefined_is_none_or_nan():
    empty = classes.confusion(["A", "B"], [], [])
    assert (empty.n, empty.rate, empty.no_choice_share, empty.majority_answer, empty.majority_class) == (0, *[None] * 4)
    assert np.isnan(empty.rates).all()
    silent = classes.confusion(["A", "B"], [0, 0], [NO_CHOICE, NO_CHOICE])
    assert silent.majority_answer is None
    assert silent.no_choice_share == 1
    assert silent.rates[0] == 0
    assert np.isnan(silent.rates[1])


def test_changes_by_class_and_their_sentence():
    right = [0] * 100 + [1] * 100
    before = classes.confusion(["Negative", "Positive"], right, [0] * 61 + [1] * 39 + [1] * 96 + [0] * 4)
    after = classes.confusion(["Negative", "Positive"], right, [0] * 91 + [1] * 9 + [1] * 84 + [NO_CHOICE] * 16)
    found = classes.class_changes(before, after)
    assert found == [ClassChange("Negative", 100, 0.61, 0.91), ClassChange("Positive", 100, 0.96, 0.84)]
    assert classes.sentence(found) == "right on Negative 61% to 91%, on Positive 96% to 84%"


def test_a_class_without_samples_has_no_rate_and_no_place_in_the_sentence():
    table = classes.confusion(["A", "B"], [0, 0], [0, 1])
    found = classes.class_changes(table, table)
    assert found[1] == ClassChange("B", 0, None, None)
    assert classes.sentence(found) == "right on A 50% to 50%"
    assert classes.sentence(found[1:]) == ""


def test_tables_of_other_samples_or_classes_are_not_compared():
    table = classes.confusion(["A", "B"], [0, 1], [0, 1])
    for other in (classes.confusion(["A", "B"], [0, 0], [0, 1]), classes.confusion(["A", "C"], [0, 1], [0, 1])):
        with pytest.raises(CorrSteerError, match="same"):
            classes.class_changes(table, other)


@pytest.mark.parametrize(
    ("right", "answered", "message"),
    [
        ([0, 2], [0, 0], "right class"),
        ([0, -1], [0, 0], "right class"),
        ([0, 1], [0, -2], "answer"),
        ([0, 1], [0, 2], "answer"),
        ([0, 1], [0, 0.5], "answer"),
        ([0, 1], [0], "same samples"),
    ],
)
def test_numbers_that_are_no_class_are_refused(right, answered, message):
    with pytest.raises(CorrSteerError, match=message):
        classes.confusion(["A", "B"], right, answered)


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        ((), ()),
        (("A", "A"), ((1, 0, 0), (0, 1, 0))),
        (("A",), ((1,),)),
        (("A",), ((1, -1),)),
        (("A", "B"), ((1, 0, 0),)),
    ],
)
def test_a_table_of_another_shape_is_refused(names, counts):
    with pytest.raises(CorrSteerError):
        ConfusionTable(names, counts)


def test_classes_part_where_one_gains_and_the_other_loses_by_more_than_noise():
    apart = [ClassChange("Negative", 100, 0.60, 0.94), ClassChange("Positive", 100, 0.96, 0.81)]
    assert parted(apart)
    assert not parted([ClassChange(one.name, 6, one.unsteered_rate, one.steered_rate) for one in apart])
    alike = [ClassChange("Negative", 400, 0.60, 0.75), ClassChange("Positive", 400, 0.70, 0.84)]
    assert not parted(alike)


def test_classes_without_samples_and_one_class_alone_do_not_part():
    assert not parted([])
    assert not parted([ClassChange("A", 500, 0.1, 0.9), ClassChange("B", 0, None, None)])


def test_classes_that_part_by_chance_alone_are_few():
    """Both classes change alike; independent samples, which is the worst that the cautious variance allows for."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(2000):
        one, two, three = ([rng.binomial(80, rate) / 80 for rate in (0.5, 0.7)] for _ in range(3))
        wrong += parted([ClassChange(name, 80, *pair) for name, pair in (("A", one), ("B", two), ("C", three))])
    assert wrong / 2000 < 0.06


@pytest.mark.parametrize("rates", [((0.4, 0.62), (0.7, 0.6)), ((0.4, 0.52), (0.7, 0.64)), ((0.0, 1.0), (1.0, 1.0))])
def test_two_classes_part_by_the_textbook_test_of_a_difference_of_differences(rates):
    n = 50
    shrunk = [[(rate * n + 1) / (n + 2) for rate in pair] for pair in rates]
    gap = (shrunk[0][1] - shrunk[0][0]) - (shrunk[1][1] - shrunk[1][0])
    error = sum(p * (1 - p) / (n + 2) for pair in shrunk for p in pair) ** 0.5
    found = [ClassChange(name, n, *pair) for name, pair in zip("AB", rates, strict=True)]
    assert parted(found) is bool(2 * norm.sf(abs(gap) / error) < 0.05)
