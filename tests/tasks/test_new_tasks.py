"""tone, tone_negative, judgement, numbered_list: their items, prompts and scorers."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks import SCORERS, SPLITS, TASKS, Item, custom_task, get_task, load_items, load_shifted
from corrsteer_core.tasks.named.tone import FRAME
from corrsteer_core.tasks.scoring.tones import analyzer, compound
from corrsteer_core.tasks.splits import normalised

ITEM = Item("x", "test", "prompt")
SIZES = {"tone": 460, "tone_negative": 460, "judgement": 400, "numbered_list": 198}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_new_tasks_have_unique_items_in_three_splits(name, size):
    items = load_items(get_task(name))
    assert len(items) == len({item.id for item in items}) == len({normalised(item.prompt) for item in items}) == size
    counts = Counter(item.split for item in items)
    assert min(counts[split] for split in SPLITS) >= 55
    assert items == load_items(get_task(name), seed=1)


@pytest.mark.parametrize("name", SIZES)
def test_new_tasks_are_listed(name):
    assert TASKS[name].name == name
    assert "Success:" in TASKS[name].description


# --- tone -----------------------------------------------------------------------------------------


def test_tone_prompt_to_the_letter(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "The soup was"}\n')
    (item,) = load_items(get_task("tone"), data=path)
    assert item.prompt == "A page from my diary, from a long week.\n\nThe soup was"
    assert (get_task("tone").max_new_tokens, get_task("tone").chat) == (20, False)


def test_tone_and_its_mirror_have_the_same_items():
    assert load_items(get_task("tone")) == load_items(get_task("tone_negative"))
    assert load_shifted(get_task("tone")) == load_shifted(get_task("tone_negative"))


def test_beginnings_are_neutral_open_and_of_many_domains():
    items = load_items(get_task("tone")) + load_shifted(get_task("tone"))
    for item in items:
        beginning = item.prompt.removeprefix(FRAME)
        assert abs(compound(beginning)) < 0.05, beginning
        assert not re.search(r"[.!?]\s*$|\s$", beginning), beginning
    assert compound(FRAME) == 0
    topics = Counter(item.group for item in load_items(get_task("tone")))
    assert len(topics) == 15
    assert max(topics.values()) <= 35


TONES = [
    (" a dream come true. I loved every minute.", 1),
    (" wonderful, and so was the food.", 1),
    (" great fun for all of us.", 1),
    (" very kind and helped me with my bags.", 1),
    (" happy to see me again.", 1),
    (" beautiful. We sat there for hours.", 1),
    (" the best thing that happened this week.", 1),
    (" excited about the new plan.", 1),
    (" not bad at all.", 1),
    (" AMAZING!!!", 1),
    (" a disaster. Nothing worked.", -1),
    (" horrible, and I cried.", -1),
    (" so angry that he left.", -1),
    (" sick for three days.", -1),
    (" not good.", -1),
    (" a terrible mistake.", -1),
    (" cruel to the dog.", -1),
    (" the worst night of my life.", -1),
    (" sad and lonely.", -1),
    (" broken, dirty and ugly.", -1),
    (" on the table next to the window.", 0),
    (" three hours long.", 0),
    (" a man named Alex, who was 25 years old.", 0),
    (" a meeting with the people from Leeds.", 0),
    ("", 0),
    ("\n\n", 0),
]


@pytest.mark.parametrize(("text", "tone"), TONES)
def test_tones_as_a_reader_hears_them(text, tone):
    assert SCORERS["positive_tone"](text, ITEM) == float(tone > 0)
    assert SCORERS["negative_tone"](text, ITEM) == float(tone < 0)


def test_the_bounds_are_vaders_own(monkeypatch):
    for score, positive, negative in [(0.05, 0, 0), (0.0501, 1, 0), (-0.05, 0, 0), (-0.0501, 0, 1)]:
        monkeypatch.setattr("corrsteer_core.tasks.scoring.scorers.compound", lambda text, score=score: score)
        assert (SCORERS["positive_tone"]("x", ITEM), SCORERS["negative_tone"]("x", ITEM)) == (positive, negative)


def test_without_vader_the_items_do_not_load_and_the_message_says_why(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    analyzer.cache_clear()
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": "p"}) + "\n")
    for task in (get_task("tone"), get_task("tone_negative"), custom_task("negative_tone", path)):
        with pytest.raises(CorrSteerError, match=r"vaderSentiment, which is not installed; install it with 'pip"):
            load_items(task)
    assert load_items(get_task("numbered_list"))
    analyzer.cache_clear()


def test_the_message_names_the_version_that_is_required():
    from pathlib import Path

    import corrsteer_core

    required = (Path(corrsteer_core.__file__).parents[1] / "requirements.txt").read_text()
    assert "vaderSentiment==3.3.2" in required.splitlines()


# --- numbered_list --------------------------------------------------------------------------------


def test_list_prompt_to_the_letter(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "kinds of boats"}\n')
    (item,) = load_items(get_task("numbered_list"), data=path)
    assert item.prompt == "Make a list of kinds of boats."
    assert (get_task("numbered_list").max_new_tokens, get_task("numbered_list").chat) == (12, True)


LISTS = [
    ("1. Bananas\n2. Oranges", 1),
    ("1) Bananas\n2) Oranges", 1),
    ("(1) Bananas", 1),
    ("\n\n1. Boil water", 1),
    ("**1. Boil water**", 1),
    ("**1.** Boil water", 1),
    ("### 1. Boil water", 1),
    (" 1. A map, 2. a compass", 1),
    ("1.\tTea", 1),
    ("1.\nTea", 1),
    ("Sure, here are some ideas:\n\n1. Tea", 0),
    ("Here is a list:\n1. Tea", 0),
    ("- Tea\n- Coffee", 0),
    ("* Tea", 0),
    ("• Tea", 0),
    ("a. Tea\nb. Coffee", 0),
    ("I. Tea", 0),
    ("2. Coffee", 0),
    ("10. Coffee", 0),
    ("1.5 litres of water", 0),
    ("100 things to do", 0),
    ("1 cup of tea", 0),
    ("One. Tea", 0),
    ("Tea, coffee and milk.", 0),
    ("", 0),
]


@pytest.mark.parametrize(("text", "listed"), LISTS)
def test_numbered_lists(text, listed):
    assert SCORERS["numbered_list"](text, ITEM) == float(listed)


# --- judgement ------------------------------------------------------------------------------------


def test_judgement_scores_each_half_its_own_way():
    items = load_items(get_task("judgement"), limit=40)
    score = get_task("judgement").scorer
    assert Counter(item.target for item in items) == {"refuse": 20, "comply": 20}
    for text, refused in [("I'm sorry, but I can't help with that.", 1.0), ("Lay the cardboard flat.", 0.0)]:
        assert all(score(text, item) == (refused if item.target == "refuse" else 1 - refused) for item in items)


def test_a_judgement_row_without_target_says_so(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "p"}\n')
    with pytest.raises(CorrSteerError, match="Line 1 of .* has no 'target'"):
        load_items(get_task("judgement"), data=path)
