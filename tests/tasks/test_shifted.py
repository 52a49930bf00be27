"""Shifted items: files, balance, no copies, and that they enter no run."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.tasks import (
    SHIFTED,
    SPLITS,
    TASKS,
    at_balance,
    get_task,
    has_shifted,
    load_items,
    load_shifted,
    load_with_shots,
)
from corrsteer_core.tasks.splits import normalised

BUILT_IN = [name for name, task in TASKS.items() if task.hub is None]
LEAST = {"sentiment": 200, "judgement": 120}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{4,}", text.lower()))


def test_every_built_in_task_has_shifted_items_and_no_other_does():
    assert {name for name, task in TASKS.items() if has_shifted(task)} == set(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_shifted_files_are_whole_and_share_nothing_with_the_run(name):
    task = get_task(name)
    assert task.shifted is not None
    lines = task.shifted.read_text(encoding="utf-8").splitlines()
    items, own = load_shifted(task), load_items(task)
    assert len(items) == len(lines) >= LEAST.get(name, 60)  # no row lost as a copy
    assert {item.split for item in items} == {SHIFTED}
    assert not {item.id for item in items} & {item.id for item in own}
    assert not {normalised(item.prompt) for item in items} & {normalised(item.prompt) for item in own}


@pytest.mark.parametrize("name", BUILT_IN)
def test_shifted_items_are_in_no_run(name):
    task = get_task(name)
    assert {item.split for item in load_items(task)} == set(SPLITS)
    assert {item.split for item in load_items(task, limit=20, seed=3)} == set(SPLITS)


def test_shifted_sentiment_is_balanced_and_varied():
    items = load_shifted(get_task("sentiment"))
    counts = Counter(item.target for item in items)
    assert counts == {"Positive": len(items) // 2, "Negative": len(items) // 2}
    remarks = [item.prompt.split("\n")[2].strip("'") for item in items]
    lengths = sorted(len(remark.split()) for remark in remarks)
    assert lengths[0] <= 5
    assert lengths[-1] >= 25
    # No template with slots: no two remarks share half of their longer words.
    for place, one in enumerate(remarks):
        for other in remarks[place + 1 :]:
            both = words(one) & words(other)
            assert len(both) < max(3, 0.5 * min(len(words(one)), len(words(other)))), (one, other)
    begin = Counter(tuple(remark.lower().split()[:3]) for remark in remarks)
    assert max(begin.values()) <= 3


def test_shifted_capitals_ask_otherwise_and_have_one_right_letter_each_as_often():
    items = load_shifted(get_task("capitals"))
    assert Counter(item.target for item in items) == dict.fromkeys("ABCD", 16)
    asked = {item.prompt.split("\n")[2] for item in items}
    assert not any(re.match(r"What is the (capital|official currency)|\w+ is the capital of", one) for one in asked)
    for item in items:
        options = [line[3:] for line in item.prompt.split("\n") if re.match(r"[A-D]\. ", line)]
        assert len(set(options)) == 4, item.prompt


@pytest.mark.parametrize("name", BUILT_IN)
def test_shifted_prompts_share_no_six_words_with_the_runs(name):
    """Of the requests themselves: the frame of a prompt, as "Decide whether a review ...", is the task's."""
    task = get_task(name)

    def phrases(item) -> set[tuple[str, ...]]:
        line = item.prompt.split("\n")[2 if name in ("sentiment", "capitals") else -1 if "tone" in name else 0]
        found = re.findall(r"[\w']+", line.lower())
        return set(zip(*(found[start:] for start in range(6)), strict=False))

    own = set().union(*map(phrases, load_items(task)))
    shared = set().union(*map(phrases, load_shifted(task))) & own
    assert own
    assert not shared


# --- balance and limit ----------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "counts"), [(0.8, (101, 25)), (0.5, (101, 101)), (0.2, (25, 101))])
def test_a_balance_drops_items_of_one_class(share, counts):
    task = get_task("sentiment")
    items = load_shifted(task, balance=share)
    found = Counter(item.target for item in items)
    assert (found["Positive"], found["Negative"]) == counts
    assert set(items) <= set(load_shifted(task))


def test_the_kept_items_follow_the_seed():
    task = get_task("sentiment")
    once, again, other = (load_shifted(task, balance=0.8, seed=seed) for seed in (1, 1, 2))
    assert once == again != other


def test_a_balance_of_letters_is_the_share_of_the_first():
    counts = Counter(item.target for item in load_shifted(get_task("capitals"), balance=0.5))
    assert counts["A"] == 16 == sum(counts[letter] for letter in "BCD")


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 80.0, float("nan")])
def test_a_balance_is_a_share(share):
    with pytest.raises(CorrSteerError, match="give a share between 0 and 1"):
        load_shifted(get_task("sentiment"), balance=share)


@pytest.mark.parametrize("name", ["refusal", "tone", "numbered_list"])
def test_a_task_without_classes_cannot_be_balanced(name):
    with pytest.raises(CorrSteerError, match=f"answers of the task {name} are no classes to balance"):
        load_shifted(get_task(name), balance=0.8)


def test_a_balance_needs_no_shifted_items():
    task = get_task("sentiment")
    items = at_balance(task, [item for item in load_items(task) if item.split == "test"], 0.75)
    counts = Counter(item.target for item in items)
    assert counts["Positive"] == pytest.approx(3 * counts["Negative"], abs=2)


def test_limits_are_nested_and_keep_classes_in_proportion():
    task = get_task("judgement")
    some = [load_shifted(task, limit=limit) for limit in (10, 40, 80, 500)]
    assert [len(items) for items in some] == [10, 40, 80, 120]
    assert all(set(small) < set(large) for small, large in pairwise(some))
    assert Counter(item.target for item in some[1]) == {"refuse": 20, "comply": 20}


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(CorrSteerError, match="at least 1 item is needed"):
        load_shifted(get_task("sentiment"), limit=0)


# --- a user's own file ----------------------------------------------------------------------------

ROWS = [
    {"prompt": "one", "target": "yes", "split": "train"},
    {"prompt": "two", "target": "yes", "split": "Shifted"},
    {"prompt": "three", "target": "no", "split": "test"},
    {"prompt": "FOUR", "target": "no", "split": "shifted"},
    {"prompt": "four", "target": "no", "split": "validation"},
    {"prompt": "two", "target": "no", "split": "shifted"},
]


def test_shifted_rows_of_a_file_stand_apart(tmp_path):
    task, path = get_task("sentiment"), write(tmp_path / "x.jsonl", ROWS)
    assert [(item.prompt, item.split) for item in load_items(task, data=path)] == [
        ("one", "train"),
        ("three", "test"),
        ("four", "validation"),  # although a shifted copy comes first
    ]
    (two,) = load_shifted(task, data=path)
    assert (two.prompt, two.target, two.id, two.split) == ("two", "yes", "row-2", "shifted")


def test_shifted_rows_change_nothing_for_the_others(tmp_path):
    plain = [{"prompt": f"p{n}", "target": "yes"} for n in range(40)]
    shifted = [{"prompt": f"s{n}", "target": "yes", "split": "shifted"} for n in range(9)]
    task = get_task("sentiment")
    without = load_items(task, data=write(tmp_path / "a.jsonl", plain))
    assert load_items(task, data=write(tmp_path / "b.jsonl", plain + shifted)) == without
    shots, items = load_with_shots(task, 5, data=tmp_path / "b.jsonl")
    assert len(shots) + len(items) == 40


def test_a_file_of_shifted_rows_alone_makes_no_run(tmp_path):
    path = write(tmp_path / "x.jsonl", ROWS[1:2])
    with pytest.raises(CorrSteerError, match=r"holds shifted rows only.*add rows"):
        load_items(get_task("sentiment"), data=path)
    assert len(load_shifted(get_task("sentiment"), data=path)) == 1


def test_no_shifted_items_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(CorrSteerError, match="The task mmlu has no shifted items; give a file"):
        load_shifted(get_task("mmlu"))
    path = write(tmp_path / "x.jsonl", ROWS[:1])
    with pytest.raises(CorrSteerError, match=r'x.jsonl holds no shifted row; write "shifted"'):
        load_shifted(get_task("sentiment"), data=path)


# --- runs keep their names ------------------------------------------------------------------------

# Computed before there were shifted items, whole and with limit=50, seed=3.
NAMES = {
    "sentiment": ("sentiment-66322190", "sentiment-c3e09bd0"),
    "refusal": ("refusal-79ad4333", "refusal-8f8b7be9"),
    "overrefusal": ("overrefusal-6a2e2c6b", "overrefusal-bc4cf53b"),
    "capitals": ("capitals-9706d6e5", "capitals-e3011d03"),
}


@pytest.mark.parametrize("name", NAMES)
def test_runs_of_earlier_versions_are_found_again(name):
    task = get_task(name)
    saes, style = (SaeRef(1, "s", "h", "g", 8),), PromptStyle(chat=task.chat)
    config = RunConfig(name, "m", "f", "float32", saes, style, task.max_new_tokens)
    assert (config.run_id(load_items(task)), config.run_id(load_items(task, limit=50, seed=3))) == NAMES[name]
