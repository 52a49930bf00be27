"""What a tab holds on the Steer page, kept in the server's memory, so that a reload of the page loses nothing.

A reload is a new session to Streamlit. The address names a word that nobody can guess; the next session to come with it
gets a copy of the set with its history, of what is asked and how, and of the answers, which go on growing meanwhile.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import streamlit as st

from app.steer.browser_side import DESK
from app.steer.desk import Desk, open_desks
from app.steer.playing import Playing

KEPT = 100
"""Pages that are remembered; the one not seen for longest makes room."""
WORD = "remembered_as"  # of this tab


@dataclass(frozen=True)
class Page:
    """What a tab held when it was last drawn."""

    desk: Desk
    widgets: dict[str, object]
    """What the widgets of the question hold, by their keys."""
    playing: Playing | None


class Shelf:
    """Pages by word; used by all tabs."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, Page] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, word: str, page: Page) -> None:
        """Remember a page under a word, in place of what was there."""
        with self._lock:
            self._pages[word] = page
            self._pages.move_to_end(word)
            while len(self._pages) > KEPT:
                self._pages.popitem(last=False)

    def get(self, word: str) -> Page | None:
        """The page under a word, if it is remembered."""
        with self._lock:
            return self._pages.get(word)


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The one shelf of this process."""
    return Shelf()


def restore(run: str) -> Page | None:
    """What the address names, if this tab has no desk for the run yet; puts its desk and widgets into this session."""
    found = shelf().get(st.query_params.get(DESK, "")) if run not in open_desks() else None
    if found is None or found.desk.run != run:
        return None
    open_desks()[run] = _copied(found.desk)
    st.session_state.update(found.widgets)
    return found


def remember(desk: Desk, widgets: dict[str, object], playing: Playing | None) -> str:
    """Keep what this tab holds; returns the word for its address."""
    word = st.session_state.setdefault(WORD, secrets.token_urlsafe(9))
    shelf().put(word, Page(_copied(desk), widgets, playing))
    return word


def _copied(desk: Desk) -> Desk:
    """A desk whose editing does not change the other's; the sets themselves are values."""
    return replace(desk, editor=desk.editor.copied(), note=None)
