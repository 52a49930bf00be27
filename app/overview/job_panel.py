"""The work that is going on: every job with its progress, to be cancelled, gone on with or put away."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from app.shared import components as ui
from corrsteer_core.base import jobs
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import seconds

WHERE = {
    "fit": "Its run is in the table below.",
    "select": "The set is ready on the Steer page.",
    "predict": "The predictions are on the Features page.",
    "describe": "The descriptions are on the Features page.",
    "evaluate": "The numbers are on the Evaluate page.",
    "sweep": "The numbers are on the Evaluate page.",
    "transfer": "The numbers are on the Evaluate page.",
}
"""Where what a job made is found, by the command it ran."""
POLL = 1.0  # seconds between looks at a running job


def draw() -> None:
    """Every job that has not been put away; looks again every second while one is running."""
    busy = any(job.state == "running" for job in jobs.jobs())
    st.fragment(ui.page_of(_jobs), run_every=POLL if busy else None)()


def draw_one(id: str) -> None:
    """The progress of one job beside what started it; the card above has its buttons."""

    def shown() -> None:
        with suppress(CorrSteerError):  # it has been put away
            job = jobs.job(id)
            if job.state == "running":
                st.progress(job.share, text=_progress(job))
            else:
                st.markdown(_ending(job))

    busy = any(job.id == id and job.state == "running" for job in jobs.jobs())
    st.fragment(shown, run_every=POLL if busy else None)()


def _progress(job: jobs.Job) -> str:
    left = "" if job.seconds_left is None else f" · about {seconds(job.seconds_left)} left"
    return f"{job.share:.0%} · {ui.for_markdown(job.stage)}{left}"


def _jobs() -> None:
    found = jobs.jobs()
    now = {(job.id, job.stage) for job in found if job.state == "running"}
    before = st.session_state.get("work_seen", now)
    st.session_state["work_seen"] = now
    if before - now:
        st.rerun()  # a stage or a job has ended: the whole page has news
    for job in found:
        _job(job)


def _job(job: jobs.Job) -> None:
    with st.container(border=True):
        text, *buttons = st.columns([6, 1.3, 1.3], vertical_alignment="center")
        text.markdown(f"**{ui.for_markdown(job.title)}**")
        if job.state == "running":
            st.progress(job.share, text=_progress(job))
            label = "Stop now" if job.stopping else "Cancel"
            buttons[1].button(
                label,
                key=f"cancel-{job.id}",
                help=jobs.if_stopped(job.arguments[0]),
                width="stretch",
                on_click=jobs.cancel,
                args=(job.id,),
            )
            return
        text.markdown(_ending(job))
        if job.state != "finished" and buttons[0].button(
            "Go on" if job.state == "cancelled" else "Try again",
            key=f"resume-{job.id}",
            type="primary",
            width="stretch",
        ):
            jobs.resume(job.id)
            st.rerun()
        if buttons[1].button("Dismiss", key=f"forget-{job.id}", width="stretch"):
            jobs.forget(job.id)
            st.rerun()


def _ending(job: jobs.Job) -> str:
    if job.state == "finished":
        return f"Done. {WHERE.get(job.arguments[0], WHERE['fit'])}"
    if job.state == "cancelled":
        return f"Stopped. {jobs.if_stopped(job.arguments[0])}"
    return f":material/error: {ui.for_markdown(ui.in_words_of_the_page(job.error))}"
