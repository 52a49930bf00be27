"""The model that the pages talk to: loaded once per process, in the background, and shared by all tabs in turns.

Asking for a `Bench` returns at once; waiting for its model is for the threads that generate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from app.shared import resources
from app.shared.components import log
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import run_facts

if TYPE_CHECKING:
    from corrsteer_core.base.progress import Progress
    from corrsteer_core.models.loading import Model
    from corrsteer_core.runs.steering_set import SaeRef
    from corrsteer_core.saes.sae import Sae


class Bench:
    """A model in memory with the SAEs used so far."""

    def __init__(self, name: str, dtype: str) -> None:
        self.name, self.dtype = name, dtype
        self.lock = threading.Lock()
        """Held for one step of generation, or while a text is read, so that several tabs go on side by side."""
        self._loading = threading.Lock()
        self._saes: dict[SaeRef, Sae] = {}
        self._model: Model | None = None
        self._problem = ""
        self._loaded = threading.Event()
        threading.Thread(target=self._load, name=f"loading {name}", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether loading has ended, well or not."""
        return self._loaded.is_set()

    @property
    def problem(self) -> str:
        """Why the model could not be loaded, in a sentence; empty if it could or is still loading."""
        return self._problem

    def model(self) -> Model:
        """The model, as soon as it is there. Raises CorrSteerError if it cannot be loaded."""
        self._loaded.wait()
        if self._model is None:
            raise CorrSteerError(self._problem)
        return self._model

    def give_way(self) -> None:
        """Let those who wait for the lock, which the caller holds, take a step."""
        self.lock.release()
        try:
            time.sleep(0.01)  # without this pause no other thread would get the lock
        finally:
            self.lock.acquire()

    def sharing(self, progress: Progress) -> Progress:
        """`progress`, at every call of which others may go first (see `give_way`)."""

        def then_give_way(stage: str, done: int, total: int) -> None:
            progress(stage, done, total)
            self.give_way()

        return then_give_way

    def saes(self, refs: Sequence[SaeRef]) -> list[Sae]:
        """The SAEs a set names, each loaded the first time. Raises CorrSteerError if they cannot be loaded."""
        from corrsteer_core.saes.named_saes import saes_of

        model = self.model()
        with self._loading:  # not the model's: texts go on growing meanwhile
            if new := [ref for ref in refs if ref not in self._saes]:
                loaded = {(sae.layer, sae.fingerprint): sae for sae in saes_of(new, model)}
                self._saes |= {ref: loaded[ref.layer, ref.fingerprint] for ref in new}
            return sorted((self._saes[ref] for ref in refs), key=lambda sae: sae.layer)

    def _load(self) -> None:
        try:
            from transformers.utils import logging

            from corrsteer_core.models.loading import load_model
            from corrsteer_core.saes.sources import import_library

            logging.disable_progress_bar()  # it would tear the terminal that the app was started from
            model = load_model(self.name, like=self.dtype)
            import_library()  # before anybody gets the model: two threads that import it at once break it for good
            self._model = model
        except CorrSteerError as error:
            self._problem = str(error)
        except Exception as error:  # a thread has nobody to raise to; the pages show the sentence
            log.exception("loading %s failed", self.name)
            self._problem = (
                f"The model {self.name} could not be loaded ({type(error).__name__}); the app's log says more."
            )
        finally:
            self._loaded.set()


def bench(run: str) -> Bench:
    """The bench of a run's model, in the arithmetic of the run; the first call starts loading it."""
    config = resources.ask(run_facts.facts, run).config
    return _bench(config["model"], config["dtype"])


@st.cache_resource(max_entries=2, show_spinner=False)
def _bench(name: str, dtype: str) -> Bench:
    return Bench(name, dtype)


def try_again(bench: Bench) -> None:
    """Forget a model that could not be loaded, so that the next call of `bench` loads it again."""
    _bench.clear(bench.name, bench.dtype)
