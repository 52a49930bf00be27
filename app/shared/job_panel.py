"""The work that is going on: every job with its progress, to be cancelled, gone on with or put away.

A job that fails while a tab looks is told of once, over whatever page it is; the sentence stays beside what started it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import streamlit as st

from app.shared import components as ui
from app.shared import run_jobs, state
from corrsteer_core.base import jobs
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import seconds

WHERE = {
    "fit": "Its run is on the Overview page.",
    "select": "The set is ready on the Steer page.",
    "predict": "The predictions are on the Features page.",
    "describe": "The descriptions are on the Features page.",
    "evaluate": "The numbers are on the Evaluate page.",
    "sweep": "The numbers are on the Evaluate page.",
    "transfer": "The numbers are on the Evaluate page.",
}
"""Where what a job made is found, by the command it ran."""
POLL = 1.0  # seconds between looks at a running job


TOLD = "failures_told"  # ids of failed jobs that this tab has told of, or found when it came


def draw() -> None:
    """Every job that has not been put away; looks again every second while one is running."""
    busy = any(job.state == "running" for job in jobs.jobs())
    st.fragment(ui.page_of(_jobs), run_every=POLL if busy else None)()


def draw_one(id: str) -> None:
    """One job beside what started it, as long as it is not put away."""

    def shown() -> None:
        with suppress(CorrSteerError):  # it has been put away
            job = jobs.job(id)
            _tell([job])
            _job(job)
            if busy and job.state != "running":
                st.rerun()  # it has ended: the page has no more to look for

    busy = any(job.id == id and job.state == "running" for job in jobs.jobs())
    st.fragment(ui.page_of(shown), run_every=POLL if busy else None)()


def begin_to_tell() -> None:
    """From now on this tab tells of every job that fails."""
    st.session_state.setdefault(TOLD, {job.id for job in jobs.jobs() if job.state == "failed"})


def _tell(found: Iterable[jobs.Job]) -> None:
    begin_to_tell()
    for job in found:
        if job.state == "failed" and job.id not in st.session_state[TOLD]:
            st.session_state[TOLD].add(job.id)
            st.toast(f"**{ui.for_markdown(job.title)}**  \n{_why(job)}", icon=":material/error:", duration="long")


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
    _tell(found)
    for job in found:
        _job(job)


def _job(job: jobs.Job) -> None:
    with st.container(border=True):
        text, right = st.columns([5, 2.6], vertical_alignment="center")
        buttons = right.container(horizontal=True, horizontal_alignment="right")
        text.markdown(f"**{ui.for_markdown(job.title)}**")
        if job.state == "running":
            st.progress(job.share, text=_progress(job))
            label = "Stop now" if job.stopping else "Cancel"
            buttons.button(
                label,
                key=f"cancel-{job.id}",
                help=jobs.if_stopped(job.arguments[0]),
                on_click=jobs.cancel,
                args=(job.id,),
            )
            return
        text.markdown(_ending(job))
        with buttons:
            _next(job)
            put_away = st.button("Dismiss", key=f"forget-{job.id}")
        if put_away:
            jobs.forget(job.id)
            st.rerun()


def _next(job: jobs.Job) -> None:
    """What can be done after a job has ended: nothing where the same would only fail again."""
    if job.state == "finished":
        run = run_jobs.run_of(job)
        if run and st.button("Look at it", key=f"look-at-{job.id}"):
            state.go_to("overview", run=run)
        return
    if job.state == "failed" and not job.again:
        return
    label = "Go on" if job.state == "cancelled" else "Try again"
    if st.button(label, key=f"resume-{job.id}"):
        jobs.resume(job.id)
        st.rerun()


def _ending(job: jobs.Job) -> str:
    if job.state == "finished":
        return f"Done. {WHERE.get(job.arguments[0], WHERE['fit'])}"
    if job.state == "cancelled":
        return f"Stopped. {jobs.if_stopped(job.arguments[0])}"
    return f":material/error: {_why(job)}"


def _why(job: jobs.Job) -> str:
    return ui.for_markdown(ui.in_words_of_the_page(job.error))
