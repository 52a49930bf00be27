"""What of the prompts repeats: counted in a file made for it, kept with the run, said, and no part of the run's name."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from corrsteer_core.method.repeats import Repeats, near_copies, repeated
from corrsteer_core.reporting.ranking_words import of_repeats as sentences
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.tasks import Item, custom_task, load_items

LONG = "the quick brown fox jumps over a lazy dog while nine more words follow here"


def file_of(tmp_path, *rows):
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def row(prompt, target, split):
    return {"prompt": f"Question: {prompt}", "target": target, "split": split}


def test_copies_contradictions_and_near_copies_are_counted(tmp_path):
    data = file_of(
        tmp_path,
        row("alpha beta", "yes", "train"),
        row("Alpha  beta", "yes", "test"),  # a copy
        row("gamma delta", "yes", "train"),
        row("gamma delta", "no", "train"),  # a copy that contradicts
        row("gamma delta", "no", "test"),  # and another
        row(LONG, "yes", "validation"),
        row(LONG + " too", "yes", "test"),  # nearly the same
        row("something else entirely", "yes", "test"),
    )
    task = custom_task("exact", data)
    items = load_items(task)
    assert repeated(task, items) == Repeats(copies=3, contradictions=1, near_copies=1)
    assert len(items) == 8 - 3


def test_what_all_prompts_share_makes_none_a_near_copy():
    shared = " ".join(f"word{n}" for n in range(60))
    items = [Item("1", "train", f"{shared} red apple"), Item("2", "test", f"{shared} green pear")]
    assert near_copies(items) == 0
    texts = ((f"{shared} {LONG}", "train"), (f"{shared} {LONG} too", "test"), (f"{shared} blue plum", "train"))
    again = [Item(text, split, text) for text, split in texts]
    assert near_copies(again) == 1
    assert near_copies([replace(one, split="train") for one in again]) == 0


def test_they_are_no_part_of_the_runs_name_and_runs_of_before_keep_theirs():
    sae = SaeRef(1, "random/1", "blocks.1.hook_resid_post", "f1", 8)
    plain = RunConfig("sentiment", "tiny", "abc", "float32", (sae,), PromptStyle(chat=False), 1)
    items = [Item("1", "train", "a", "Positive")]
    assert plain.run_id(items) == "sentiment-938bd20b", "what the release of before called it"
    assert replace(plain, copies=3, contradictions=1, near_copies=9).run_id(items) == plain.run_id(items)
    assert plain.run_id([replace(items[0], cluster="template 1")]) != plain.run_id(items)


def test_they_are_said_in_sentences():
    assert sentences({"copies": 0, "contradictions": 0, "near_copies": 0}) == sentences({}) == []
    copies, contradictions, near = sentences(asdict(Repeats(1, 2, 1200)))
    assert copies == "1 row was left out: the prompt was there already."
    assert contradictions.startswith("2 prompts were there with several targets")
    assert near.startswith("1,200 test samples nearly repeat")
