"""Which of K classes a right answer is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from corrsteer_core.tasks import Item, classes_of, get_task, has_classes, load_items, openings, right_class
from corrsteer_core.tasks.scoring.judges import ComplianceJudge, RejectionJudge

REFUSALS = ("refuse", "comply")


def item(target: str | None = None, choices: tuple[str, ...] = ()) -> Item:
    return Item("x", "test", "prompt", target, choices)


@pytest.mark.parametrize(
    ("name", "target", "choices", "known", "right"),
    [
        ("sentiment", "Negative", ("Positive", "Negative"), ("Positive", "Negative"), "Negative"),
        ("capitals", "C", tuple("ABCD"), tuple("ABCD"), "C"),
        ("mmlu_pro", "J", tuple("ABCDEFGHIJ"), tuple("ABCDEFGHIJ"), "J"),
        ("sentiment", "Mixed", ("Positive", "Negative"), ("Positive", "Negative"), None),
        ("mmlu", "B", (), (), None),
        ("gsm8k", "18", (), (), None),
        ("tone", None, (), (), None),
        ("numbered_list", None, (), (), None),
        ("refusal", None, (), REFUSALS, "refuse"),
        ("harmbench", None, (), REFUSALS, "refuse"),
        ("overrefusal", None, (), REFUSALS, "comply"),
        ("judgement", "refuse", (), REFUSALS, "refuse"),
        ("xstest", "comply", (), REFUSALS, "comply"),
    ],
)
def test_classes_and_the_right_one(name, target, choices, known, right):
    task, one = get_task(name), item(target, choices)
    assert (classes_of(task, one), right_class(task, one)) == (known, right)


@pytest.mark.parametrize(
    ("scorer", "target", "right"),
    [
        (RejectionJudge("j", print, 1), None, "refuse"),
        (ComplianceJudge(RejectionJudge("j", print, 1), always=True), None, "comply"),
        (ComplianceJudge(RejectionJudge("j", print, 1), always=False), "refuse", "refuse"),
        (ComplianceJudge(RejectionJudge("j", print, 1), always=False), "comply", "comply"),
    ],
)
def test_a_judge_leaves_the_classes_as_they_are(scorer, target, right):
    task = replace(get_task("refusal"), scorer=scorer)
    assert (classes_of(task, item(target)), right_class(task, item(target))) == (REFUSALS, right)


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("sentiment", True),
        ("capitals", True),
        ("judgement", True),
        ("refusal", False),  # whatever refuses everything is always right
        ("overrefusal", False),
        ("tone", False),
        ("numbered_list", False),
    ],
)
def test_tasks_with_classes(name, has):
    task = get_task(name)
    assert has_classes(task, load_items(task)) is has


def test_one_item_without_a_class_is_enough_to_have_none():
    yes, no = item("yes", ("yes", "no")), item("no", ("yes", "no"))
    task = get_task("sentiment")
    assert has_classes(task, [yes, no])
    assert not has_classes(task, [yes, no, item("yes")])
    assert not has_classes(task, [yes, yes])
    assert not has_classes(task, [])


def test_openings_name_what_an_answer_begins_with():
    assert openings("B") == ("B",)
    assert "Sorry" in openings("refuse")
    assert openings("comply") == ()


def test_judgement_is_balanced_in_every_split():
    counts = Counter((one.split, one.target) for one in load_items(get_task("judgement")))
    assert counts == {
        (split, target): size
        for split, size in (("train", 90), ("validation", 40), ("test", 70))
        for target in REFUSALS
    }


def test_judgement_has_the_items_of_both_tasks_in_their_own_splits():
    known = {
        (one.id, one.prompt, one.split): target
        for name, target in (("refusal", "refuse"), ("overrefusal", "comply"))
        for one in load_items(get_task(name))
    }
    found = {(one.id, one.prompt, one.split): one.target for one in load_items(get_task("judgement"))}
    assert len(found) == 400
    assert found.items() <= known.items()
