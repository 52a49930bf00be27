"""Columns of a user's file that have other names: how they are written, read, guessed, and what is said of a bad row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks import custom_task, load_items
from corrsteer_core.tasks.columns import as_columns, guessed, read, written
from corrsteer_core.tasks.preview import rows_of, suited, taken
from corrsteer_core.tasks.shifted import load_shifted


def csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_columns_are_read_as_they_are_written_in_the_order_of_our_fields():
    assert read("target=answer, prompt=question") == (("prompt", "question"), ("target", "answer"))
    assert read("prompt=prompt") == ()  # it has its own name
    assert read("split=") == (("split", ""),)


@pytest.mark.parametrize("name", ["question", "a,b", "a,target=b", 'x"y', " padded ", "a=b", "ü{", "{"])
def test_any_name_of_a_column_survives_being_written(name):
    columns = as_columns({"prompt": name, "target": "right"})
    assert read(written(columns)) == columns


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("question", "does not name columns"),
        ("promt=question", "did you mean"),
        ('{"prompt": 3}', "not a JSON object of texts"),
        ("{", "not a JSON object of texts"),
    ],
)
def test_what_names_no_columns_is_refused(given, said):
    with pytest.raises(CorrSteerError, match=said):
        read(given)


def test_items_are_read_from_the_columns_that_are_named(tmp_path):
    path = csv(tmp_path / "mine.csv", "q,right,split,prompt", "Two and two?,4,nonsense,no", "One and two?,3,,no")
    columns = read("prompt=q,target=right,split=")
    items = load_items(custom_task("number", path, columns=columns))
    assert {(item.prompt, item.target) for item in items} == {("Two and two?", "4"), ("One and two?", "3")}
    plain = tmp_path / "plain.jsonl"
    rows = [{"prompt": "Two and two?", "target": "4"}, {"prompt": "One and two?", "target": "3"}]
    plain.write_text("\n".join(map(json.dumps, rows)))
    same = load_items(custom_task("number", plain))
    assert [(one.prompt, one.split) for one in items] == [(one.prompt, one.split) for one in same]


def test_a_column_that_is_not_there_and_a_row_without_it_are_named_as_the_file_names_them(tmp_path):
    path = csv(tmp_path / "mine.csv", "question,answer", "What?,yes", "Why?,", "How?,")
    with pytest.raises(CorrSteerError, match=r"no column 'qestion' for the prompt.*did you mean.*'question', 'answer'"):
        load_items(custom_task("exact", path, columns=read("prompt=qestion")))
    found = taken(custom_task("exact", path, columns=read("prompt=question,target=answer")))
    assert found.wrong == 2
    assert found.problems[0].startswith("Line 3 of")
    assert "no 'target' (column 'answer')" in found.problems[0]


def test_a_file_with_one_named_column_for_shifted_rows_leaves_the_tasks_own_alone(tmp_path):
    path = csv(tmp_path / "mine.csv", "q,split", "Stay?,train", "Go?,shifted")
    columns = read("prompt=q")
    assert [one.prompt for one in load_shifted(custom_task("refusal", path, columns=columns))] == ["Go?"]
    from dataclasses import replace

    from corrsteer_core.tasks import get_task

    tone = get_task("tone")
    assert load_shifted(replace(tone, columns=columns)) == load_shifted(tone)


def test_usual_names_are_guessed_and_our_own_come_first():
    assert guessed(["ID", "Question", "answer", "label"]) == {"prompt": "Question", "target": "answer", "id": "ID"}
    assert guessed(["text", "prompt"]) == {"prompt": "prompt"}
    assert guessed(["x"]) == {}


@pytest.mark.parametrize(
    ("targets", "name"),
    [
        (["A", "b", "(C)"], "letter"),
        (["3", "1,200", "-4"], "number"),
        (["refuse", "comply"], "comply_or_refuse"),
        (["yes", "no"], "first_word"),
        (["New York", "no"], "contains"),
        (["yes", "no", None], "first_word"),
        (["yes", None], None),
        ([], None),
    ],
)
def test_the_scorer_that_suits_right_answers(targets, name):
    assert suited(targets) == name


def test_what_a_run_would_take_is_what_it_takes(tmp_path):
    lines = [f"Question {n}?,{'yes' if n % 3 else 'no'},{'shifted' if n > 26 else ''}" for n in range(30)]
    path = csv(tmp_path / "mine.csv", "prompt,target,split", *lines, "question 0?,no,")
    task = custom_task("first_word", path)
    found = taken(task, limit=12, shots=2)
    assert (len(found.items), len(found.shots), found.shifted, found.copies, found.problems) == (12, 2, 3, 1, ())
    assert sum(found.splits.values()) == 12
    whole = taken(task)
    assert list(whole.items) == load_items(task)
    assert whole.targets == {"yes": 18, "no": 9}
    assert taken(task, shots=100).problems[0].startswith("100 examples were asked for")
    rows = rows_of(path)
    assert (rows.columns, rows.count, rows.first[0]["prompt"]) == (("prompt", "target", "split"), 31, "Question 0?")
