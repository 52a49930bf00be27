"""Results for reading: tables whose rows have different fields, and what is nested in them."""

import pandas as pd
import pytest

from corrsteer_core.cli.printing import human

MEASURED = {"n": 60, "effect": 0.125, "steered_interval": [0.5, 0.75], "fluency": {"unsteered": 0.9, "steered": 0.8}}


def test_rows_may_have_fields_that_others_lack():
    table = human([{"set": "V", "features": 0}, {"set": "A", "n": 60, "features": 2, "verdict": "fine"}])
    assert [line.split() for line in table.splitlines()] == [
        ["set", "features", "n", "verdict"],
        ["V", "0", "-", "-"],
        ["A", "2", "60", "fine"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1


@pytest.mark.parametrize("empty", ["V", "P"])
def test_a_study_with_an_empty_set_can_be_read(empty):
    """The result that `study` gives where a strategy chose nothing."""
    full = {"set": "A", **MEASURED, "controls": {"random 1": {"n": 60}}, "features": 2, "verdict": "better than noise"}
    text = human(
        {"task": "capitals", "splits": [{"split": "train", "n": 75}], "sets": [full, {"set": empty, "features": 0}]}
    )
    rows = text.splitlines()
    assert "task: capitals" in rows
    assert rows[-1].split()[:2] == [empty, "-"]
    assert "0.5 to 0.75" in rows[-2]
    assert "random 1" not in text, "what is nested in a row is for --json"


@pytest.mark.parametrize(
    "baseline",
    [
        None,
        {"chosen": None, "measured": None, "problem": "All outcomes are on one side."},
        {"chosen": {"layer": 1, "scale": 0.5, "share": 0.02}, "measured": MEASURED},
        {"chosen": {"layer": 1, "scale": 0.5, "share": 0.02}, "measured": None},
    ],
)
def test_a_baseline_can_be_read_whatever_came_of_it(baseline):
    text = human({"sets": [], "baseline": baseline})
    assert "baseline" in text
    if baseline and baseline["chosen"]:
        assert "0.02" in text
    if baseline and baseline["measured"]:
        rows = [line.split() for line in text.splitlines()[-3:]]
        assert rows == [
            ["baseline", "layer", "scale", "share", "n", "effect"],
            ["chosen", "1", "0.5", "0.02", "-", "-"],
            ["measured", "-", "-", "-", "60", "0.125"],
        ]


@pytest.mark.parametrize(("p", "shown"), [(3e-9, "< 0.001"), (0.01234, "0.012"), (0.25, "0.25"), (1.0, "1.00")])
def test_p_is_shown_as_everywhere_and_other_numbers_as_they_are(p, shown):
    row = {"r": -0.54321, "p": p, "q": p, "effect_p": p}
    assert human([row]).splitlines()[1].split("  ")[-1].strip() == shown
    assert human(row).splitlines() == ["r: -0.5432", f"p: {shown}", f"q: {shown}", f"effect_p: {shown}"]


def test_nothing_is_said_as_such():
    assert human([]) == "(none)"


def test_lists_are_intervals_or_sentences_and_an_empty_one_is_none():
    found = human({"interval": [-0.25, 1.0], "repeats": ["One.", "Two."], "left_out": []})
    assert found.splitlines() == ["interval: -0.25 to 1", "repeats: One. Two.", "left_out: none"]


def test_times_are_told_to_the_second():
    assert human({"created": pd.Timestamp("2026-01-02 03:04:05.678901")}) == "created: 2026-01-02 03:04:05"
