"""Reading a number out of an answer: GSM8K's "#### 18", "The answer is $1,234.50", or the last number there is."""

from __future__ import annotations

import re
from decimal import Decimal

# A sign counts only if it does not stand between two things ("10-5", "pages 3-5"); digits that are part of a
# word ("CO2", "m2", "x1") are no number, letters after one ("18kg", "5th") are units.
_NUMBER = re.compile(
    r"""(?<![\w.])                              # not inside a word or another number
        (?:(?P<sign>(?<![\d)%\w])[-+])(?=[\d.$€£¥₹]))?\s?  # sign, close to what it is of: "- 18" is a list's
        [$€£¥₹]?\s?                             # currency, before or after the sign
        (?P<sign2>(?<=[$€£¥₹])-)?
        (?P<digits>\d{1,3}(?:,\d{3})+(?!\d)|\d+)?
        (?P<decimals>\.\d+)?
    """,
    re.VERBOSE,
)
_MINUS = str.maketrans({"−": "-", "–": "-", "＄": "$", "％": "%", "，": ","})
_CODES = re.compile(r"\b(?:USD|EUR|GBP|INR|CAD|AUD|US|Rs\.?)\s?(?=[-$€£]?\d)", re.IGNORECASE)
_ANSWER = re.compile(r"\banswers?\b(?: to [^:.\n]{0,80}?)?\s*(?:is|are|was|=|:)+|\banswer[*_\s]*[:=]", re.IGNORECASE)
_CLAUSE_END = re.compile(r"\n\s*\n|[.!?](?:\s|$)|\b(?:because|since|as)\b")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_LISTED = re.compile(r"[.):]\s+[^\W\d]")


def answer_number(text: str) -> Decimal | None:
    """The number an answer ends in: after "####", in \\boxed{}, after "answer is", else the last one. None if none."""
    text = _plain(text)
    boxed = [number for body in _BOXED.findall(text) if (number := _first(body)) is not None]
    for number in (_after_hashes(text), boxed[-1] if boxed else None, _after_cue(text)):
        if number is not None:
            return number
    found = _all(text)
    return found[-1] if found else None


def holds_one_number(text: str) -> bool:
    """Whether there is one number in a text and no other: "1/2" and "1.5e-3" are read as two."""
    return len(_all(_plain(text))) == 1


def _plain(text: str) -> str:
    return _CODES.sub("", text.translate(_MINUS)).replace("\\$", "$")


def _all(text: str) -> list[Decimal]:
    return [number for match in _NUMBER.finditer(text) if (number := _value(match)) is not None]


def _first(text: str) -> Decimal | None:
    found = _all(text)
    return found[0] if found else None


def _value(match: re.Match[str]) -> Decimal | None:
    if match["digits"] is None and match["decimals"] is None:
        return None
    sign = "-" if "-" in (match["sign"], match["sign2"]) else ""
    return Decimal(sign + (match["digits"] or "0").replace(",", "") + (match["decimals"] or ""))


def _after_hashes(text: str) -> Decimal | None:
    """The first "#### number": a model that runs on to a next question has answered before. Headings
    ("#### 1. First, ...", "#### Step 2") are no answers."""
    for part in re.split(r"#{3,}", text)[1:]:
        line = part.split("\n", 1)[0].strip(" *_:")
        match = _NUMBER.search(line)
        if match is None or not re.match(r"[^\w]*[\d.]", line) or _LISTED.match(line, _end_of_number(line)):
            continue
        return _result(line)
    return None


def _end_of_number(line: str) -> int:
    for match in _NUMBER.finditer(line):
        if _value(match) is not None:
            return match.end()
    return len(line)


def _after_cue(text: str) -> Decimal | None:
    """The number after the last "the answer is", in the same sentence."""
    for match in reversed(list(_ANSWER.finditer(text))):
        clause = _CLAUSE_END.split(text[match.end() :].lstrip(), maxsplit=1)[0]
        number = _result(clause)
        if number is not None:
            return number
    return None


def _result(clause: str) -> Decimal | None:
    """A clause's first number or, in an equation, the first one after the last equals sign."""
    _, equals, right = clause.rpartition("=")
    number = _first(right) if equals else None
    return number if number is not None else _first(clause)
