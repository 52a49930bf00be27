"""The marked difference of two texts: nothing lost, nothing that acts, and the right place named."""

from __future__ import annotations

import html
import random
import re

import pytest

from corrsteer_core.base.text_diff import Piece, differences, escaped, marked, parting, visible

HOSTILE = [
    "<script>alert(1)</script>",
    "a & b &amp; \"quoted\" 'single' <b>bold</b>",
    "</ins></del><img src=x onerror=alert(1)>",
    "user\u202egnp.exe \u2066isolate\u2069 \u200fmark",
    "nul \x00 bell \x07 escape \x1b[31m del \x7f",
    "  leading and trailing  \n\n\tspace \n",
    "\r\nwindows\r\nlines\u2028separator",
    "na\u0308ive nai\u0308ve",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u4eca\u65e5\u306f\u826f\u3044 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "lone \ud800 surrogate, zero\u200bwidth, \U000e0041tag",
    "$x^2$ :red[markdown] **bold** [link](javascript:alert(1)) `code`",
    "",
    " ",
]
ANY_TAG = re.compile(r"<[^>]*>")
OUR_TAG = re.compile(
    r'<(?:(?:del|ins) class="cs-only-(?:unsteered|steered)" title="only in the (?:un)?steered text">|/(?:del|ins)>)'
)


def joined(pieces: tuple[Piece, ...]) -> str:
    return "".join(piece.text for piece in pieces)


def unmarked(markup: str) -> str:
    return html.unescape(ANY_TAG.sub("", markup))


@pytest.mark.parametrize("left", HOSTILE)
@pytest.mark.parametrize("right", HOSTILE)
def test_removing_the_marks_gives_both_texts_back(left: str, right: str) -> None:
    found = differences(left, right)
    assert (joined(found.unsteered), joined(found.steered)) == (left, right)
    assert unmarked(marked(found, "unsteered")) == visible(left)
    assert unmarked(marked(found, "steered")) == visible(right)
    assert found.identical == (left == right)


def test_removing_the_marks_gives_random_texts_back() -> None:
    rng = random.Random(0)
    letters = "ab .,<&>'\"\n\u202e\x00\u4eca\u0301-"
    for _ in range(300):
        left, right = ("".join(rng.choices(letters, k=rng.randrange(30))) for _ in range(2))
        found = differences(left, right)
        assert (joined(found.unsteered), joined(found.steered)) == (left, right)
        assert unmarked(marked(found, "steered")) == visible(right)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_but_our_own_marks_is_markup(text: str) -> None:
    for side in ("unsteered", "steered"):
        markup = OUR_TAG.sub("", marked(differences(text, "other " + text), side))
        assert not set("<>\"'") & set(markup)
        assert all(char in "\n\t\u200c\u200d" or char.isprintable() for char in markup)
        markup.encode()  # a lone surrogate would break the page's protocol


def test_visible_spells_out_what_would_hide_or_reorder() -> None:
    assert visible("a\u202eb\x00c\ud800") == "a\u27e8U+202E\u27e9b\u27e8U+0000\u27e9c\u27e8U+D800\u27e9"
    assert (
        visible("tab\tline\n \u00e9 \u4eca \U0001f468\u200d\U0001f469")
        == "tab\tline\n \u00e9 \u4eca \U0001f468\u200d\U0001f469"
    )
    assert escaped('<a href="x">\'') == "&lt;a href=&quot;x&quot;&gt;&#x27;"


def test_only_the_changed_words_are_marked() -> None:
    found = differences("The film was a dull bore.", "The film was a great joy.")
    assert marked(found, "unsteered").startswith("The film was a <del ")
    assert [piece for piece in found.unsteered if not piece.same] == [Piece(" dull bore", False)]
    assert [piece for piece in found.steered if not piece.same] == [Piece(" great joy", False)]
    assert marked(found, "steered").endswith(">great joy</ins>.")


def test_punctuation_is_a_token_of_its_own_and_apostrophes_are_not() -> None:
    assert [piece.text for piece in differences("I can't stop.", "I can't stop!").steered] == ["I can't stop", "!"]
    assert differences("can't", "won't").steered == (Piece("won't", False),)


def test_unspaced_scripts_differ_by_character() -> None:
    assert [piece.text for piece in differences("\u4eca\u65e5\u306f", "\u4eca\u65e5\u3082").steered] == [
        "\u4eca\u65e5",
        "\u3082",
    ]


@pytest.mark.parametrize(
    ("left", "right", "index", "sentence"),
    [
        ("one two three", "one two four", 2, "The first 2 words agree; then “three” unsteered, “four” steered."),
        ("Yes, I do", "Yes. I do", 1, "The first word agrees; then “,” unsteered, “.” steered."),
        ("no", "yes", 0, "They differ from the first word on; then “no” unsteered, “yes” steered."),
        ("one two", "one two three", 2, "The first 2 words agree; then only the steered text goes on, with “three”."),
        ("one two", "", 0, "Only the unsteered text says anything, beginning with “one”."),
        ("same", "same", None, "The two texts are identical."),
        ("same  words ", "same words", None, "The two texts have the same words; only white space differs."),
        ("", "", None, "Both texts are empty."),
        # Repeats: the longest match of a general comparison would start at the second "a".
        ("a b c d", "a x a b c d", 1, "The first word agrees; then “b” unsteered, “x” steered."),
    ],
)
def test_where_the_texts_part(left: str, right: str, index: int | None, sentence: str) -> None:
    found = differences(left, right)
    assert found.parts_at == index
    assert parting(found) == sentence


def test_a_quoted_word_is_short_and_harmless() -> None:
    sentence = parting(differences("short", "\u202e" + "x" * 500))
    assert "\u202e" not in sentence
    assert len(sentence) < 160


def test_long_texts_take_no_time() -> None:
    left = " ".join(f"w{number % 50}" for number in range(2000))
    right = " ".join(f"w{number % 50}" for number in range(1, 2001))
    assert not differences(left, right).identical
