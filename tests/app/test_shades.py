"""Shaded texts as HTML: every token there with its number, prompt and answer apart, nothing in them obeyed."""

import re

from app.features import shades
from corrsteer_core.inspection.token_activations import FeatureActivations, Span, Text

HOSTILE = '<script>alert(1)</script>\u202e\x07"><img src=x onerror=alert(1)>'


def activations(pieces, values, prompt):
    spans = tuple(Span(piece, place, place + 1) for place, piece in enumerate(pieces))
    ids = tuple(range(len(pieces)))
    return FeatureActivations(Text(ids[:prompt], ids[prompt:]), tuple(values), spans)


def test_each_token_carries_its_number_and_what_it_is():
    html = shades.shaded(activations(["a", " b", " yes", "."], [0.0, 2.0, 4.0, 1.0], 2), 4.0)
    titles = re.findall(r'title="([^"]*)"', html)
    assert titles == [
        "0.00 · prompt · does not count", "2.00 · prompt · counts",
        "4.00 · answer · counts", "1.00 · answer · does not count",
    ]  # fmt: skip
    assert re.findall(r",([0-9.]+)\)", html) == ["0.38", "0.75", "0.19"]
    assert html.index("cs-word") < html.index("yes")
    assert html.count("cs-answer") == 2


def test_hostile_tokens_stay_text():
    html = shades.row(activations([HOSTILE, "x"], [1.0, 2.0], 1), 2.0, 1.0, HOSTILE)
    assert "<script" not in html
    assert "<img" not in html
    assert "\u202e" not in html
    assert "\x07" not in html
    assert "&lt;script&gt;" in html


def test_of_a_long_prompt_the_peak_and_the_end_are_kept():
    values = [0.0] * 1000
    values[300] = 5.0
    html = shades.shaded(activations([f"w{place} " for place in range(1000)], values, 990), 5.0)
    assert "w300 " in html
    assert all(f"w{place} " in html for place in range(940, 1000))
    assert "w600 " not in html
    assert html.count("…") == 2


def test_a_silent_text_has_no_shade():
    assert "background:rgba" not in shades.shaded(activations(["a"], [0.0], 1), 0.0)


def test_the_numbers_behind():
    table = shades.numbers(activations(["a", " b", "c"], [0.0, 2.0, 4.0], 2))
    assert table["activation"].tolist() == [0.0, 2.0, 4.0]
    assert table["part"].tolist() == ["prompt", "prompt", "answer"]
    assert table["counts"].tolist() == [False, True, False]


def texts_of_a_task():
    """Two prompts of a template of six tokens before and five after what differs; the last is where the answer begins."""
    before, after = [f"b{n} " for n in range(6)], [f"a{n} " for n in range(4)] + [":"]
    values = [0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.5, 4.0]
    return [activations([*before, own, *after, " yes"], values, 12) for own in ("good ", "bad ")]


def test_what_all_prompts_share_is_a_gap_but_for_what_is_active_and_where_the_answer_begins():
    texts = texts_of_a_task()
    fold = shades.shared(texts)
    assert fold == (6, 5)
    html = shades.shaded(texts[0], 4.0, fold=fold)
    left = re.findall(r'<span title="[^"]*"[^>]*>([^<]*)</span>', html)
    assert left == ["b1 ", "good ", "a2 ", ":", " yes"]
    assert html.count("…") == 4
    assert "…" not in shades.shaded(texts[0], 4.0)


def test_nothing_is_folded_of_one_text_of_equal_ones_and_of_those_that_share_little():
    one = texts_of_a_task()[0]
    assert shades.shared([one]) == (0, 0)
    assert shades.shared([one, one]) == (0, 0)
    short = [activations(["a ", own, "b ", ":", " yes"], [0.0] * 5, 4) for own in ("x ", "y ")]
    assert shades.shared(short) == (0, 0)
