"""The tokenizer of the model that is to answer, read in the background; the page shows plain prompts until it is there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import streamlit as st

from app.shared.components import log
from corrsteer_core.base.errors import CorrSteerError

if TYPE_CHECKING:  # the page must not load torch, which transformers does
    from corrsteer_core.models.words import Words

KEPT = 300.0  # seconds: what is not on this machine now may be after a run


class Reading:
    """The words of a model, once they are read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.words: Words | None = None
        self.problem = ""
        self._ended = threading.Event()
        threading.Thread(target=self._read, name=f"reading the words of {name}", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether it has ended, well or not."""
        return self._ended.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; whether it came."""
        return self._ended.wait(seconds)

    def _read(self) -> None:
        try:
            from corrsteer_core.models.words import words_of

            self.words = words_of(self.name)
        except CorrSteerError as error:
            self.problem = str(error)
        except Exception as error:  # a thread has nobody to raise to
            log.exception("the words of %s could not be read", self.name)
            self.problem = f"The tokenizer of {self.name} could not be read ({type(error).__name__})."
        finally:
            self._ended.set()


@st.cache_resource(max_entries=4, ttl=KEPT, show_spinner=False)
def reading(name: str) -> Reading:
    """The words of a model; the first call begins to read them."""
    return Reading(name)
