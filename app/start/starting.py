"""How long a run will take, the button that starts it, and beside it how far it is or why it could not be."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.shared import components as ui
from app.shared import job_panel, resources, run_jobs
from app.start.question import REMOVED, Question
from app.start.settings import Pairing, Settings
from corrsteer_core.base import jobs
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import seconds
from corrsteer_core.storage import pace
from corrsteer_core.tasks.preview import Taken

STARTED = "start_job"  # the job that this tab started last


def draw(button: Any, time: Any, question: Question, found: Taken | None, pairing: Pairing, settings: Settings) -> None:
    """The button and the time where they are to stand, and what comes of the button below."""
    pressed = button.button("Start", type="primary", icon=":material/play_arrow:", width="stretch", key="new_run_start")
    time.markdown(how_long(question, found, pairing, settings))
    if pressed:
        _start(question, pairing, settings)
    elif started := st.session_state.get(STARTED):
        job_panel.draw_one(started)
        if removed := st.session_state.get(REMOVED):
            st.caption(removed)


def _start(question: Question, pairing: Pairing, settings: Settings) -> None:
    """Start the run; what is wrong is said here, and nothing is started."""
    st.session_state.pop(STARTED, None)
    st.session_state.pop(REMOVED, None)
    try:
        arguments = ["fit", *pairing.arguments(), *settings.arguments(), run_jobs.DESCRIBED]
        arguments[1:1] = question.arguments()  # last: it keeps the file
        if jobs.running(arguments):
            raise CorrSteerError("This run is already in progress; the Overview page shows how far it is.")
        job_panel.begin_to_tell()
        st.session_state[STARTED] = jobs.start(arguments, f"{question.title}: collect and rank")
    except CorrSteerError as error:
        ui.problem(error)
        return
    st.rerun()


def how_long(question: Question, found: Taken | None, pairing: Pairing, settings: Settings) -> str:
    """What the answers will take, by what an earlier run took here; else that nothing is known yet."""
    task = question.task
    if task is None:
        return "How long it takes can be said once the samples are known."
    tokens = settings.tokens or task.max_new_tokens
    runs = resources.runs()
    readable = runs.loc[runs["problem"].isna(), "run"] if len(runs) else []
    known = pace.alike((resources.ask(pace.pace, run) for run in readable), pairing.name, tokens)
    if known is None:
        return (
            f"How long it takes shows after the first batch: no run of this model with answers of up to "
            f"{ui.counted(tokens, 'token')} has been timed on this machine yet."
        )
    by = f"{_rate(known)}, as measured in the run {ui.for_markdown(known.run)} on this machine"
    count = len(found.items) if found and not found.problems else None
    if count is None:
        return f"{by}. How many samples there are is known once they are there."
    return (
        f"About **{seconds(known.seconds_for(count))}** for {ui.counted(count, 'answer')}: {by}. Ranking comes on top."
    )


def _rate(known: pace.Pace) -> str:
    if known.rate >= 1:
        return f"{known.rate:.1f} answers a second"
    return f"one answer in {seconds(1 / known.rate)}"
