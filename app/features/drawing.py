"""What the model says of one feature, worked out in the background and kept for whoever asks again.

It stops when it is cancelled or when nobody looks any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.shared import models
from app.shared.components import log
from app.shared.models import Bench
from app.shared.resources import FitStamp, fit_stamp
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress

if TYPE_CHECKING:
    from corrsteer_core.inspection.feature_profile import FeatureProfile
    from corrsteer_core.inspection.token_activations import FeatureActivations

KEPT = 64  # features whose profiles are kept
UNATTENDED = 20.0
"""Seconds after which work that no page looks at is given up; a page that is being drawn does not look."""
LOADING = "Loading the model and its features"
CANCELLED = "It was cancelled."


class Work:
    """Something that needs the model, being worked out or done.

    `do` is given the bench and where to say how far it is, first when everything is loaded.
    """

    def __init__(self, bench: Bench, do: Callable[[Bench, Progress], Any]) -> None:
        self.result: Any = None
        self.problem = ""
        self.stage = LOADING
        self.left = False
        """Whether it was given up because no page looked at it any more."""
        self._cancelled = False
        self.keep_alive()
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

    def keep_alive(self) -> None:
        """A page shows this; without it the work is given up after a while."""
        self._seen = time.monotonic()

    def cancel(self) -> None:
        """Stop before the next piece of it. What is being loaded is not waited for."""
        self._cancelled = True
        if self.stage == LOADING and not self.ready:
            self.problem = CANCELLED
            self._ended.set()
        self.stage = "Stopping"

    def _progress(self, stage: str, done: int, total: int) -> None:
        """Keep how far it is; raises _Stopped when it is not wanted any more."""
        if self._cancelled:
            raise _Stopped(CANCELLED)
        if time.monotonic() - self._seen > UNATTENDED:
            self.left = True
            raise _Stopped("It was given up while no page showed it; ask for it again.")
        self.stage = f"{stage[:1].upper()}{stage[1:]}" + (f", {done} of {total}" if total > 1 else "")

    def _run(self, bench: Bench, do: Callable[[Bench, Progress], Any]) -> None:
        try:
            self.result = do(bench, self._progress)
        except (CorrSteerError, _Stopped) as error:
            self.problem = str(error)
        except Exception as error:  # a thread has nobody to raise to; the page shows the sentence
            log.exception("reading a feature failed")
            self.problem = f"The model could not be read ({type(error).__name__}); the app's log says more."
        finally:
            self._ended.set()


class _Stopped(Exception):
    """Why work has not been done."""


def profile(run: str, layer: int, feature: int) -> Work:
    """The profile of a feature; the first call starts drawing it, later ones get the same until its answers do."""
    about = fit_stamp(run), layer, feature
    work = _profile(*about)
    if work.left:  # now somebody looks again
        _profile.clear(*about)
        work = _profile(*about)
    work.keep_alive()
    return work


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _profile(at: FitStamp, layer: int, feature: int) -> Work:
    def draw(bench: Bench, progress: Progress) -> FeatureProfile:
        from corrsteer_core.inspection import feature_profile
        from corrsteer_core.runs import stored_run

        net, saes = bench.model(), bench.saes(stored_run.stored(at.run)[0].saes)
        progress("waiting for the model", 0, 1)
        with bench.lock:  # nobody else's steering may be on the model while it reads
            return feature_profile.profile_of(at.run, layer, feature, net, saes, progress=bench.sharing(progress))

    return Work(models.bench(at.run), draw)


def own_text(run: str, layer: int, feature: int, prompt: str, answer: str) -> Work:
    """A feature on a text that was typed."""

    def read(bench: Bench, progress: Progress) -> FeatureActivations:
        from corrsteer_core.inspection import feature_profile
        from corrsteer_core.runs import stored_run

        net, saes = bench.model(), bench.saes(stored_run.stored(run)[0].saes)
        progress("reading your text", 0, 1)
        with bench.lock:
            return feature_profile.own_text(run, layer, feature, prompt, answer, net, saes)

    return Work(models.bench(run), read)


def try_again(run: str, layer: int, feature: int) -> None:
    """Forget a profile that could not be drawn, and its model if that was why."""
    bench = models.bench(run)
    if bench.problem:
        models.try_again(bench)
    _profile.clear(fit_stamp(run), layer, feature)
