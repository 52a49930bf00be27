"""What the model says of one feature, worked out in the background and kept for whoever asks again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import models
from app.components import log
from app.models import Bench
from app.resources import FitStamp, fit_stamp
from corrsteer_core.errors import CorrSteerError

if TYPE_CHECKING:
    from corrsteer_core.portrait import Portrait
    from corrsteer_core.shading import Shading

KEPT = 64  # features whose portraits are kept


class Work:
    """Something that needs the model, being worked out or done."""

    def __init__(self, bench: Bench, do: Callable[[Bench], Any]) -> None:
        self.result: Any = None
        self.problem = ""
        self._ended = threading.Event()
        # The bench is the thread's alone: what is kept of the work must not keep a model in memory.
        threading.Thread(target=self._run, args=(bench, do), name="drawing", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether it has ended, well or not."""
        return self._ended.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; whether it came."""
        return self._ended.wait(seconds)

    def _run(self, bench: Bench, do: Callable[[Bench], Any]) -> None:
        try:
            self.result = do(bench)
        except CorrSteerError as error:
            self.problem = str(error)
        except Exception as error:  # a thread has nobody to raise to; the page shows the sentence
            log.exception("reading a feature failed")
            self.problem = f"The model could not be read ({type(error).__name__}); the app's log says more."
        finally:
            self._ended.set()


def portrait(run: str, layer: int, feature: int, model: str) -> Work:
    """The portrait of a feature; the first call starts drawing it, later ones get the same until its answers do."""
    return _portrait(fit_stamp(run), layer, feature, model)


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _portrait(at: FitStamp, layer: int, feature: int, model: str) -> Work:
    def draw(bench: Bench) -> Portrait:
        from corrsteer_core import pipeline, portrait

        net, saes = bench.model(), bench.saes(pipeline.stored(at.run)[0].saes)
        with bench.lock:  # nobody else's steering may be on the model meanwhile
            return portrait.portrait(at.run, layer, feature, net, saes)

    return Work(models.bench(model), draw)


def own_text(run: str, layer: int, feature: int, model: str, prompt: str, answer: str) -> Work:
    """A feature on a text that was typed."""

    def shade(bench: Bench) -> Shading:
        from corrsteer_core import pipeline, portrait

        net, saes = bench.model(), bench.saes(pipeline.stored(run)[0].saes)
        with bench.lock:
            return portrait.own_text(run, layer, feature, prompt, answer, net, saes)

    return Work(models.bench(model), shade)


def try_again(run: str, layer: int, feature: int, model: str) -> None:
    """Forget a portrait that could not be drawn, and its model if that was why."""
    if models.bench(model).problem:
        models.try_again(model)
    _portrait.clear(fit_stamp(run), layer, feature, model)
