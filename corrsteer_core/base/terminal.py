"""Text made safe for a terminal: nothing hidden in it acts there, and no message is endless.

File names, model outputs and error texts may hold escape codes that colour or clear a screen, and marks that turn the
direction of what follows. They are shown as Python writes them (\\x1b, \\u202e).
"""

from __future__ import annotations

import re

LONGEST_MESSAGE = 1_000
"""Characters of a message that are shown."""
_END = 300  # of these, characters kept from its end, which says what to do

_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # all but tab and new line
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_LINE_ENDS = "\u2028\u2029"
_HALVES = "\ud800-\udfff"  # of pairs: no encoding takes them, so printing one would be an error
_HIDDEN = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_LINE_ENDS}{_HALVES}]")
_HIDDEN_IN_A_LINE = re.compile(f"[\t\n{_CONTROLS}{_DIRECTIONS}{_LINE_ENDS}{_HALVES}]")


def printable(text: str, *, one_line: bool = False) -> str:
    """The text with everything that acts on a terminal written out; with `one_line`, tabs and new lines too."""
    return (_HIDDEN_IN_A_LINE if one_line else _HIDDEN).sub(_written_out, text)


def shortened(text: str, most: int = LONGEST_MESSAGE) -> str:
    """At most `most` characters of a text, its beginning and its end, with a note of how many are left out."""
    if len(text) <= most:
        return text
    note = f" … ({len(text):,} characters in all) … "
    end = min(_END, most // 3)
    return text[: most - end - len(note)] + note + text[-end:]


def message(text: str) -> str:
    """A text as one short, safe line."""
    return shortened(printable(text, one_line=True))


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
