"""Sweeps and matrices from evaluations, on cases small enough to see."""

import pandas as pd
import pytest

from corrsteer_core.reporting import comparisons

RATES = {0.0: (0.5, 0.9), 1.0: (0.7, 0.9), 2.0: (0.8, 0.6), 4.0: (0.8, 0.5), 8.0: (0.6, 0.8)}


def rows(rates):
    found = [
        {"scale": scale, "task": task, "steered_rate": pair[place]}
        for scale, pair in rates.items()
        for place, task in enumerate("ab")
        if place < len(pair)
    ]
    return pd.DataFrame(found)


def evaluation(name, task, scale, before, after, split="test", n=100):
    won, lost = max(0, round((after - before) * n)), max(0, round((before - after) * n))
    summary = {
        "n": n, "unsteered_rate": before, "steered_rate": after, "effect": after - before, "p": 0.001,
        "steered_interval": [after - 0.1, after + 0.1], "positive_flips": won, "negative_flips": lost,
        "ser": lost / (won + lost) if won + lost else None, "fluency": {"unsteered": 1.0, "steered": 1.5}, "controls": {},
    }  # fmt: skip
    return {"label": name, "task": task, "split": split, "scale": scale, "summary": summary}


def test_pareto_points_are_those_no_other_scale_beats():
    assert comparisons.pareto(rows(RATES)) == {1.0, 2.0}


def test_equal_points_are_both_pareto_and_one_task_has_its_best():
    assert comparisons.pareto(rows({1.0: (0.5,), 2.0: (0.5,), 3.0: (0.4,)})) == {1.0, 2.0}


def test_a_scale_that_was_not_measured_everywhere_is_no_pareto_point():
    assert comparisons.pareto(rows({1.0: (0.5, 0.5), 2.0: (0.9,)})) == {1.0}
    assert comparisons.pareto(pd.DataFrame()) == set()


def test_a_sweep_is_one_set_at_its_scales():
    found = pd.DataFrame(
        [
            evaluation("A", "a", 1.0, 0.5, 0.6), evaluation("A", "a", 2.0, 0.5, 0.7), evaluation("A", "b", 1.0, 0.5, 0.5),
            evaluation("B", "a", 1.0, 0.5, 0.9), evaluation("A", "a", 4.0, 0.5, 0.9, split="validation"),
        ]
    )  # fmt: skip
    swept = comparisons.sweep(comparisons.table(found, "test"), "A")
    assert swept[["task", "scale", "pareto"]].values.tolist() == [["a", 1.0, False], ["a", 2.0, True]]
    assert swept["fluency_loss"].tolist() == pytest.approx([0.5, 0.5])
    assert comparisons.sweep(comparisons.table(found, "test"), "B").empty


def test_scales_measured_on_fewer_samples_are_not_compared():
    rows = [
        evaluation("A", "a", 1.0, 0.5, 0.6),
        evaluation("A", "a", 2.0, 0.5, 0.7),
        evaluation("A", "a", 4.0, 0.5, 0.9, n=10),
    ]
    swept = comparisons.sweep(comparisons.table(pd.DataFrame(rows), "test"), "A")
    assert swept["scale"].tolist() == [1.0, 2.0]


def test_the_matrix_has_each_set_at_the_scale_nearest_to_one_on_the_most_samples():
    found = comparisons.table(
        pd.DataFrame(
            [
                evaluation("A", "a", 2.0, 0.5, 0.9), evaluation("A", "a", 1.0, 0.5, 0.8, n=10),
                evaluation("A", "a", 1.0, 0.5, 0.6), evaluation("A", "a", 1.0, 0.5, 0.7, n=20),
                evaluation("A", "b", 1.0, 0.5, 0.4), evaluation("B", "a", 0.5, 0.5, 0.5),
            ]
        ),
        "test",
    )  # fmt: skip
    matrix = comparisons.matrix(found)
    assert matrix.loc["A", "a"] == pytest.approx(0.1)
    assert matrix.loc["A", "b"] == pytest.approx(-0.1)
    assert matrix.loc["B", "a"] == 0
    assert pd.isna(matrix.loc["B", "b"])
    assert comparisons.matrix(found[found["name"] == "B"]).empty
