"""A typed text read by the model and its features, and the meaning of features nobody has described; in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.features.drawing import Work
from app.shared import models
from app.shared.models import Bench
from app.shared.resources import FitStamp, fit_stamp
from corrsteer_core.base.progress import Progress

if TYPE_CHECKING:
    from corrsteer_core.inspection.firing import ReadText

Keys = tuple[tuple[int, int], ...]
"""Features by layer and number."""
KEPT = 64  # lists of features whose meaning is remembered


def reading(run: str, text: str, *, answer: bool) -> Work:
    """The text being read; its result is a `ReadText`. Raises CorrSteerError for a text that is empty or too long."""
    from corrsteer_core.inspection import firing

    firing.check_text(text)

    def read(bench: Bench, progress: Progress) -> ReadText:
        from corrsteer_core.runs import stored_run

        net, saes = bench.model(), bench.saes(stored_run.stored(run)[0].saes)
        progress("waiting for the model", 0, 1)
        with bench.lock:  # nobody else's steering may be on the model while it reads
            return firing.read_for(run, text, net, saes, answer=answer, progress=bench.sharing(progress))

    return Work(models.bench(run), read)


def promises(run: str, features: Keys) -> Work:
    """What features promote, being looked up; its result has the words of each."""
    about = fit_stamp(run), features
    work = _promises(*about)
    if work.left or (work.ready and work.problem):  # now somebody looks again
        _promises.clear(*about)
        work = _promises(*about)
    work.keep_alive()
    return work


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _promises(at: FitStamp, features: Keys) -> Work:
    def look_up(bench: Bench, progress: Progress) -> dict[tuple[int, int], list[str]]:
        from corrsteer_core.inspection import fired_features
        from corrsteer_core.runs import stored_run

        net, saes = bench.model(), bench.saes(stored_run.stored(at.run)[0].saes)
        progress("looking up what features promote", 0, 1)
        with bench.lock:
            return fired_features.promises(net, saes, features)

    return Work(models.bench(at.run), look_up)
