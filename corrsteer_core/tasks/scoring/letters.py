"""Which letter of a multiple-choice question an answer gives: "B", "(b)", "B. Paris", "The answer is **B**"."""

from __future__ import annotations

import re
import unicodedata

_OPEN, _CLOSE = r"[(\[{\"'“‘<]*", r"[)\]}\"'”’>]*"
_CUE = re.compile(
    rf"\b(?:answer|choice|option|letter)s?\b(?:\s+(?:is|would be|should be|must be|has to be|=))?\s*[:=\-]?\s*"
    rf"(?:option|choice|letter)?\s*(?P<open>{_OPEN})(?P<letter>[A-Za-z])(?![\w'’])",
    re.IGNORECASE,
)
_START = re.compile(rf"^(?P<open>{_OPEN})(?P<letter>[A-Za-z])(?![\w'’])(?P<close>{_CLOSE})(?P<rest>.*)$", re.DOTALL)
_IN_BRACKETS = re.compile(r"(?<!\bnot )[(\[{](?P<letter>[A-Za-z])[)\]}]")
_AT_END = re.compile(rf"(?<!not )\b(?i:is|be|it's|choose|pick|select|say|with)\s+{_OPEN}(?P<letter>[A-Z])[)\]\"'.!]*$")
_ANOTHER = re.compile(rf"^{_CLOSE}\s*(?:,|/|&|\bor\b|\band\b)+\s*(?:or |and )?{_OPEN}(?P<letter>[A-Z])(?![\w'’])")
_BECAUSE = re.compile(r"^\s+(?:(?:is|was|because|since|as|for|so|would be)\b|[-–—=]|\()", re.IGNORECASE)


def answer_letter(text: str, letters: str) -> str | None:
    """The one letter among `letters` that an answer gives, None if it gives none or several."""
    plain = unicodedata.normalize("NFKC", text)
    plain = re.sub(r"\\(?:boxed|text|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", re.sub(r"[*_`$#]", "", plain)).strip()
    for find in (_at_start, _after_cue, _in_brackets, _at_end):
        letter = find(plain, letters)
        if letter is not None:
            return letter or None
    return None


def _at_start(plain: str, letters: str) -> str | None:
    match = _START.match(plain)
    if match is None or match["letter"].upper() not in letters:
        return None
    alone = not match["rest"].strip(" .,:;!?\n")
    marked = bool(match["open"] or match["close"]) or match["rest"][:1] in (".", ":", ",", ";", "\n")
    if not (alone or marked or _stands(match["letter"], match["rest"])):
        return None
    return "" if _names_another(match["close"] + match["rest"], match["letter"], letters) else match["letter"].upper()


def _stands(letter: str, rest: str) -> bool:
    """Whether a letter before words is a choice: "B Paris" and "A is right" are, "A man" and "b flat" are not."""
    return bool(_BECAUSE.match(rest)) or (letter.isupper() and letter not in "AI" and rest[:1].isspace())


def _names_another(rest: str, letter: str, letters: str) -> bool:
    """ "A or B", "(A) and (C)": more than one choice is none."""
    another = _ANOTHER.match(rest)
    return bool(another and another["letter"] in letters and another["letter"] != letter.upper())


def _after_cue(plain: str, letters: str) -> str | None:
    """The last "answer is B": models that change their mind end with what they mean."""
    for match in reversed(list(_CUE.finditer(plain))):
        rest = plain[match.end() :]
        if match["letter"].upper() not in letters:
            continue
        if match["open"] or re.match(r"\s*$|[^\w\s]|\n", rest) or _stands(match["letter"], rest):
            return "" if _names_another(rest, match["letter"], letters) else match["letter"].upper()
    return None


def _in_brackets(plain: str, letters: str) -> str | None:
    found = {match["letter"].upper() for match in _IN_BRACKETS.finditer(plain)} & set(letters)
    return None if not found else found.pop() if len(found) == 1 else ""


def _at_end(plain: str, letters: str) -> str | None:
    match = _AT_END.search(plain)
    return match["letter"] if match and match["letter"] in letters else None
