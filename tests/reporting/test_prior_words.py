"""Is it more than a changed prior? The words and numbers that page and report share."""

from __future__ import annotations

import math

import numpy as np
import pytest

from corrsteer_core.reporting import pictures, rate_rows, verdict
from corrsteer_core.reporting.prior_words import class_table, prior_words, where_they_part
from tests.made.fabricated import OF_CLASSES

SUMMARY = {
    "n": 60,
    "unsteered_rate": 0.65,
    "steered_rate": 0.8,
    "unsteered_interval": [0.52, 0.76],
    "steered_interval": [0.67, 0.88],
    "controls": {"random 1": {"steered_rate": 0.66, "steered_interval": [0.5, 0.8]}},
    "matched": {"matched 1": {"steered_rate": 0.7, "steered_interval": [0.6, 0.8]}},
    **OF_CLASSES,
}


def test_three_numbers_say_what_constants_do_and_what_is_beyond_them():
    alone, beyond, auc = prior_words(SUMMARY).figures
    assert (alone.value, alone.note) == ("76.7%", "+11.7 points without any feature (p = 0.065)")
    assert beyond.value == "+1.7 points"
    assert beyond.note == "76.7% to 78.3%, 95% interval −6.0 to +10.0 points, p = 1.00"
    assert (auc.value, auc.note.split(";")[0]) == ("0.781 → 0.795", "+0.014, 95% interval −0.011 to +0.042")


def test_rates_by_class_are_those_of_the_confusion_tables():
    words = prior_words(SUMMARY)
    assert words.sentence == "Right on Negative 40% to 84%, on Positive 83% to 77%."
    for side, table in enumerate(words.confusion):
        counts = np.array([[int(cell) for cell in row[1:]] for row in table.rows])
        rates = counts.diagonal() / counts.sum(axis=1)
        assert [row[2 + side] for row in words.classes.rows] == [f"{rate:.1%}" for rate in rates]
        assert [row[1] for row in words.classes.rows] == [str(n) for n in counts.sum(axis=1)]
        assert table.heads[1:] == ("answered Negative", "answered Positive", "answered none of them")
    for part in (
        "would reach 58.3%",
        "Positive (71.7%) unsteered and Positive (51.7%) steered",
        "5.0% of answers are none of the classes unsteered, 1.7% steered",
    ):
        assert part in words.remark


def test_without_classes_there_is_no_block():
    old = {name: value for name, value in SUMMARY.items() if name not in OF_CLASSES}
    assert prior_words(old) is None
    assert rate_rows.rates(old, "V")["kind"].tolist() == ["unsteered", "steered", "control", "control"]


def test_an_undefined_auc_is_a_dash():
    assert prior_words({**SUMMARY, "auc": None}).figures[2].value == "–"


def test_where_no_one_token_tells_the_classes_apart_the_answers_are_shown_all_the_same():
    lacking = ("offset", "beyond_prior", "auc")
    words = prior_words({name: value for name, value in SUMMARY.items() if name not in lacking})
    assert words.figures == ()
    assert (words.classes, words.confusion) == (prior_words(SUMMARY).classes, prior_words(SUMMARY).confusion)
    assert "would reach 58.3%" in words.remark


def test_what_was_not_kept_is_left_out():
    words = prior_words({"n": 60, "offset": OF_CLASSES["offset"], "beyond_prior": OF_CLASSES["beyond_prior"]})
    assert (words.sentence, words.classes.rows, words.confusion, words.remark) == ("", (), (), "")


def test_models_with_their_constants_stand_among_the_rates():
    rows = rate_rows.rates(SUMMARY, "V").set_index("label")
    assert rows["kind"].tolist() == ["unsteered", "steered", "offset", "steered-offset", "control", "control"]
    assert rows.index[-1] == "matched 1"
    for label, right in ((rate_rows.UNSTEERED_OFFSET, 46), (rate_rows.STEERED_OFFSET, 47)):
        rate, z = right / 60, 1.959963984540054
        middle, half = rate + z * z / 120, z * math.sqrt(rate * (1 - rate) / 60 + z * z / 14400)
        low, high = ((middle + sign * half) / (1 + z * z / 60) for sign in (-1, 1))
        assert rows.loc[label, ["rate", "low", "high"]].tolist() == pytest.approx([rate, low, high])
        assert rows.loc[label, "effect"] == pytest.approx(rate - 0.65)


def test_the_picture_tells_constants_from_controls():
    svg = pictures.rates(rate_rows.rates(SUMMARY, "V"))
    for kind, count in (("offset", 1), ("steered-offset", 1), ("control", 2)):
        assert svg.count(f'<g class="mark {kind}">') == count
    assert rate_rows.UNSTEERED_OFFSET in svg
    assert rate_rows.STEERED_OFFSET in svg


def test_the_headline_says_so_where_classes_part_whatever_it_is():
    said = "Right on Negative 40% to 84%, on Positive 83% to 77%."
    assert where_they_part(SUMMARY) == said
    harmful = {**SUMMARY, "steered_rate": 0.5, "p": 0.01, "positive_flips": 2, "negative_flips": 11}
    assert verdict.verdict(harmful).sentence.endswith(said)
    # The verdict of a shifted prior names them itself, once.
    shifts = verdict.verdict({**SUMMARY, "p": 0.01, "positive_flips": 12, "negative_flips": 3})
    assert shifts.kind == "shifts"
    assert shifts.sentence.lower().count(said.lower().rstrip(".")) == 1


def test_classes_that_do_alike_are_not_in_the_headline_and_are_in_the_table():
    alike = [{**row, "unsteered_rate": 0.6, "steered_rate": 0.7} for row in SUMMARY["classes"]]
    harmful = {**SUMMARY, "classes": alike, "steered_rate": 0.5, "p": 0.01, "positive_flips": 2, "negative_flips": 11}
    assert where_they_part(harmful) == ""
    assert "Right on" not in verdict.verdict(harmful).sentence
    assert class_table(harmful).rows == (("Negative", "25", "60.0%", "70.0%"), ("Positive", "35", "60.0%", "70.0%"))
    assert class_table({}).rows == ()
