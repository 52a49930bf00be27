"""Fields that show a value which other things change too: a coefficient with slider, number and undo; the run, with links.

To give a field a new value is not enough: a browser that has not drawn it yet says the old one at the next click, which
would undo the change. So what changed elsewhere is shown by another field, and what the old one repeats is not heard.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

REMEMBERED = 20
"""Fields before the one that is drawn, whose last words are known."""


def key(name: str, value: object) -> str:
    """The key of the field that shows a value: another key once something else has changed it."""
    words = _words(name)
    number = max(words, default=0)
    if words.setdefault(number, value) != value:
        number += 1
        words[number] = value
        words.pop(number - REMEMBERED, None)
    return f"{name}-{number}"


def hear(key: str, change: Callable[..., None], *arguments: object) -> None:
    """Make the change (arguments, value) that the field with this key asks for; none if it is empty, or repeats itself."""
    name, _, place = key.rpartition("-")
    words, number, value = _words(name), int(place), st.session_state[key]
    if number not in words or words[number] == value:
        return
    words[number] = value  # so that what the field itself changes makes no other of it
    if value is not None:
        change(*arguments, value)


def _words(name: str) -> dict[int, object]:
    """What each field of this name was drawn with, or last said, by number."""
    return st.session_state.setdefault(f"field-{name}", {})
