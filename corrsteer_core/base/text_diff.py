"""Where two texts differ, word by word, as pieces and as HTML in which every character is harmless.

Pure: texts in, pieces, HTML and sentences out. A text may hold anything (markup, control characters,
right-to-left overrides): it comes out escaped, and what would be invisible or reorder the page is
spelled out by `visible`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

Side = Literal["unsteered", "steered"]

# Scripts written without spaces: every character is a word of its own. A word is all else but punctuation, so that
# vowel signs and accents stay with their letters.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_MARKS = "!-/:-@\\[-`{-~\u00a1\u00ab\u00bb\u00bf\u2010-\u2027\u2030-\u205e\u3001-\u303f\uff01-\uff0f\uff1a-\uff20"
_WORD = rf"[{_UNSPACED}]|[^\s{_MARKS}{_UNSPACED}]+(?:['\u2019][^\s{_MARKS}{_UNSPACED}]+)*"
_TOKEN = re.compile(rf"\s*(?:{_WORD}|[{_MARKS}])")
_IS_WORD = re.compile(_WORD)
_JOINERS = "\u200c\u200d"  # part of how emoji and some scripts are written
_HARMFUL = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}

_TAGS: dict[Side, tuple[str, str]] = {
    "unsteered": ('<del class="cs-only-unsteered" title="only in the unsteered text">', "</del>"),
    "steered": ('<ins class="cs-only-steered" title="only in the steered text">', "</ins>"),
}
QUOTED = 40
"""Characters of a word that a sentence quotes."""


@dataclass(frozen=True)
class Piece:
    """A stretch of one text: in the other text too, or only here."""

    text: str
    same: bool


@dataclass(frozen=True)
class Differences:
    """Two texts cut into pieces; the pieces of a side, joined, are that text, character for character."""

    unsteered: tuple[Piece, ...]
    steered: tuple[Piece, ...]
    parts_at: int | None
    """Index of the first differing token (a word or a punctuation mark) in both texts; None if all agree."""
    words_before: int
    """Words, punctuation not counted, before the texts part."""

    @property
    def identical(self) -> bool:
        """Whether the texts are equal, white space included."""
        return _joined(self.unsteered) == _joined(self.steered)


def differences(unsteered: str, steered: str) -> Differences:
    """Compare two texts word by word; white space belongs to the word after it and is not compared."""
    (left, left_tail), (right, right_tail) = _tokens(unsteered), _tokens(steered)
    keys = [token.strip() for token in left], [token.strip() for token in right]
    common = _common_prefix(*keys)
    matcher = SequenceMatcher(None, keys[0][common:], keys[1][common:], autojunk=False)
    runs = [(kind == "equal", i, j, m, n) for kind, i, j, m, n in matcher.get_opcodes()]
    return Differences(
        _pieces(
            [(left[:common], True), *((left[common + i : common + j], same) for same, i, j, _, _ in runs)], left_tail
        ),
        _pieces(
            [(right[:common], True), *((right[common + m : common + n], same) for same, _, _, m, n in runs)], right_tail
        ),
        None if keys[0] == keys[1] else common,
        sum(bool(_IS_WORD.match(key)) for key in keys[0][:common]),
    )


def marked(found: Differences, side: Side) -> str:
    """One side as HTML: what is only there in <del> (unsteered) or <ins> (steered), everything escaped."""
    opening, closing = _TAGS[side]
    out = []
    for piece in found.unsteered if side == "unsteered" else found.steered:
        bare = piece.text.lstrip()
        if piece.same or not bare:
            out.append(escaped(piece.text))
            continue
        space = piece.text[: len(piece.text) - len(bare)]
        out.append(f"{escaped(space)}{opening}{escaped(bare)}{closing}")
    return "".join(out)


def parting(found: Differences) -> str:
    """Where the texts first part, in a sentence (plain text: escape it before it goes into HTML)."""
    if found.identical:
        return "The two texts are identical." if _joined(found.steered).strip() else "Both texts are empty."
    if found.parts_at is None:
        return "The two texts have the same words; only white space differs."
    before = _counted(found.words_before)
    old, new = (_token_at(pieces, found.parts_at) for pieces in (found.unsteered, found.steered))
    if old is None or new is None:
        side = "steered" if old is None else "unsteered"
        word = f"\u201c{_quoted(old or new or '')}\u201d"
        if not found.parts_at:
            return f"Only the {side} text says anything, beginning with {word}."
        return f"{before}; then only the {side} text goes on, with {word}."
    return f"{before}; then \u201c{_quoted(old)}\u201d unsteered, \u201c{_quoted(new)}\u201d steered."


def shared_ends(prompts: Sequence[str]) -> tuple[int, int]:
    """How many characters all prompts of a task begin and end with, whole lines or words of them."""
    if len(prompts) < 2:
        return 0, 0
    start = _shared(min(prompts), max(prompts))  # what these two share, all share
    turned = [text[::-1] for text in prompts]
    end = _shared(min(turned), max(turned))
    cut = [max(text.rfind(" "), text.rfind("\n")) + 1 for text in (start, end)]
    shortest = min(map(len, prompts))
    return (cut[0], cut[1]) if sum(cut) < shortest else (0, 0)


def visible(text: str) -> str:
    """The text with every character that is invisible or reorders others spelled out, as \u27e8U+202E\u27e9.

    Line breaks, tabs and the joiners of emoji stay as they are.
    """
    return "".join(char if _harmless(char) else f"\u27e8U+{ord(char):04X}\u27e9" for char in text)


def escaped(text: str) -> str:
    """A text that can stand in HTML, in an attribute too, and does nothing there."""
    return html.escape(visible(text), quote=True)


def _harmless(char: str) -> bool:
    return char in "\n\t" or char in _JOINERS or unicodedata.category(char) not in _HARMFUL


def _tokens(text: str) -> tuple[list[str], str]:
    """The words and punctuation marks of a text, each with the white space before it, and the white space left over."""
    tokens = _TOKEN.findall(text)
    return tokens, text[sum(map(len, tokens)) :]


def _common_prefix(left: Sequence[str], right: Sequence[str]) -> int:
    both = zip(left, right, strict=False)
    return next((place for place, (one, other) in enumerate(both) if one != other), min(len(left), len(right)))


def _pieces(runs: Sequence[tuple[list[str], bool]], tail: str) -> tuple[Piece, ...]:
    """The runs that are not empty, neighbours of one kind joined; trailing white space is never a difference."""
    pieces: list[Piece] = []
    for tokens, same in [*runs, ([tail], True)]:
        text = "".join(tokens)
        if pieces and pieces[-1].same == same:
            pieces[-1] = Piece(pieces[-1].text + text, same)
        elif text:
            pieces.append(Piece(text, same))
    return tuple(pieces)


def _joined(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _token_at(pieces: Sequence[Piece], at: int) -> str | None:
    tokens, _ = _tokens(_joined(pieces))
    return tokens[at] if at < len(tokens) else None


def _quoted(token: str) -> str:
    bare = visible(token.strip())
    return bare if len(bare) <= QUOTED else bare[: QUOTED - 1] + "\u2026"


def _counted(words: int) -> str:
    if not words:
        return "They differ from the first word on"
    return "The first word agrees" if words == 1 else f"The first {words} words agree"


def _shared(one: str, other: str) -> str:
    pairs = zip(one, other, strict=False)
    return one[: next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))]
