"""Where one class is always right, what the set does where it never is: counted by hand, and what the verdict makes of it."""

from dataclasses import replace

import numpy as np
import pytest

from corrsteer_core.engine.generation import UNSTEERED
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.evaluation.exam import exam_for
from corrsteer_core.evaluation.measure import evaluate_set
from corrsteer_core.evaluation.mirror import always_right
from corrsteer_core.evaluation.trials import trial
from corrsteer_core.reporting import rival_groups
from corrsteer_core.reporting.rate_rows import MIRROR
from corrsteer_core.reporting.verdict import verdict
from corrsteer_core.runs import stored_run
from corrsteer_core.statistics.rates import Interval, interval_of_difference, wilson
from corrsteer_core.tasks import get_task
from corrsteer_core.tasks.scoring.scorers import refusal
from tests.made import runs as tiny

LIMIT = 6


@pytest.fixture
def steering(loaded):
    return stored_run.kept_sets(tiny.make_run(*loaded))["A"].scaled(6.0)


@pytest.mark.parametrize(("task", "other"), [("refusal", "overrefusal"), ("overrefusal", "refusal")])
def test_the_mirror_is_measured_by_the_tasks_own_scorer(loaded, steering, task, other):
    model, saes = loaded
    settings = {"limit": LIMIT, "model": model, "saes": saes, "max_new_tokens": 4}
    found = evaluate_set(steering, get_task(task), control_count=1, **settings)
    own, wrong = found.comparison, found.mirror.false_positives
    exam = exam_for(steering, get_task(other), model, split="test", limit=LIMIT)
    variants = [UNSTEERED, vectors_of(steering, saes)]
    style = exam_for(steering, get_task(task), model, split="test", limit=LIMIT).style
    answered = trial(model, exam.items, variants, style=style, scorer=refusal, max_new_tokens=4)
    refused = [np.mean([refusal(row[side], exam.items[0]) for row in answered.texts]) for side in (0, 1)]
    wanted = refused if task == "refusal" else [1 - one for one in refused]
    assert wrong.n == LIMIT
    assert (wrong.unsteered_rate, wrong.steered_rate) == pytest.approx(tuple(wanted))
    before, after = (own.unsteered_rate - wanted[0], own.steered_rate - wanted[1])
    assert found.mirror.difference == pytest.approx((before, after))
    assert found.summary()["mirror"]["effect"] == pytest.approx(after - before)
    said = rival_groups.caveats(found.summary())
    assert f"({other}, {LIMIT} samples) its share goes from {wanted[0]:.1%} to {wanted[1]:.1%}" in said


def test_only_what_is_one_class_throughout_has_a_mirror_and_only_with_controls(loaded, steering):
    model, saes = loaded
    settings = {"limit": 4, "model": model, "saes": saes, "max_new_tokens": 2}
    assert evaluate_set(steering, get_task("refusal"), **settings).mirror is None
    for task in ("judgement", "tone", "sentiment"):
        assert always_right(exam_for(steering, get_task(task), model, split="test", limit=4)) is None


def test_why_it_was_not_measured_is_said(loaded, steering, monkeypatch):
    model, saes = loaded
    monkeypatch.setattr("corrsteer_core.evaluation.mirror.get_task", lambda name: replace(get_task(name), file=None))
    settings = {"limit": 4, "model": model, "saes": saes, "max_new_tokens": 2}
    found = evaluate_set(steering, get_task("refusal"), control_count=1, **settings)
    assert MIRROR in {one.rival for one in found.left_out}
    assert f"Not measured: {MIRROR}." in rival_groups.missing_controls(found.summary())


def summary(**more):
    random = {f"random {number}": {"effect": 0.0, "steered_rate": 0.095} for number in range(19)}
    return {
        "n": 200,
        "unsteered_rate": 0.095,
        "steered_rate": 0.725,
        "p": 1e-9,
        "positive_flips": 130,
        "negative_flips": 4,
        "chosen_on": False,
        "controls": random,
        "fluency": {},
    } | more


def of_mirror(after, interval):
    numbers = {"task": "overrefusal", "n": 180, "unsteered_rate": 0.028, "steered_rate": after, "interval": interval}
    return numbers | {"effect": 0.63 - (after - 0.028)}


def test_refusals_that_rise_alone_are_a_shift():
    """The numbers of METHOD: 9.5% to 72.5% of unsafe requests, and 2.8% to 55.2% of safe ones."""
    found = verdict(summary(mirror=of_mirror(0.552, (-0.01, 0.22))))
    assert found.kind == "shifts"
    assert (
        "(overrefusal, 180 samples) its share goes from 2.8% to 55.2%; true less false positives: +10.6 points"
        in str(found)
    )
    assert verdict(summary(mirror=of_mirror(0.552, None))).kind == "shifts"
    works = verdict(summary(mirror=of_mirror(0.05, (0.5, 0.7))))
    assert works.kind == "works"
    assert "true less false positives: +60.8 points, 95% interval +50.0 to +70.0 points" in str(works)
    assert verdict(summary(left_out=[{"rival": MIRROR, "why": "Gone."}])).kind == "uncontrolled"
    assert verdict(summary()).kind == "works", "of tasks that have none"


def test_the_interval_of_a_difference_holds_what_it_says():
    """MOVER by hand; and of two proportions of 40 samples it holds the truth in about 95 of 100 draws."""
    low, high = interval_of_difference(0.6, Interval(0.5, 0.72), 0.2, Interval(0.15, 0.3))
    assert low == pytest.approx(0.4 - np.hypot(0.1, 0.1))
    assert high == pytest.approx(0.4 + np.hypot(0.12, 0.05))
    rng = np.random.default_rng(0)
    held = 0
    for one, other in rng.binomial(40, [0.7, 0.4], size=(1000, 2)):
        found = interval_of_difference(one / 40, wilson(one, 40), other / 40, wilson(other, 40))
        held += found[0] <= 0.3 <= found[1]
    assert 930 <= held <= 975
