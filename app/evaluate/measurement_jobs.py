"""Measurements under way or ended badly, each with its progress."""

from __future__ import annotations

import streamlit as st

from app.evaluate import measuring
from app.shared import components as ui
from app.shared import state
from corrsteer_core.base import jobs
from corrsteer_core.base.progress import seconds

POLL = 1.0  # seconds between looks at a running measurement


def draw(run: str) -> None:
    """Measurements under way or ended badly; looks again while one is running."""
    busy = any(job.state == "running" for job in measuring.of_run(run))
    st.fragment(ui.page_of(_jobs), run_every=POLL if busy else None)()


def _jobs() -> None:
    found = measuring.of_run(state.current_run() or "")
    running = {job.id for job in found if job.state == "running"}
    before = st.session_state.get("measuring", running)
    st.session_state["measuring"] = running
    for job in found:
        if job.state == "finished":
            jobs.forget(job.id)  # its result is among the evaluations
        else:
            _job(job)
    if before - running:
        st.rerun()


def _job(job: jobs.Job) -> None:
    with st.container(border=True):
        text, button = st.columns([6, 1.3], vertical_alignment="center")
        text.markdown(f"**{ui.for_markdown(job.title)}**")
        if job.state == "running":
            left = "" if job.seconds_left is None else f" · about {seconds(job.seconds_left)} left"
            text.progress(job.share, text=f"{job.share:.0%} · {ui.for_markdown(job.stage)}{left}")
            label = "Stop now" if job.stopping else "Cancel"
            button.button(label, key=f"cancel-{job.id}", width="stretch", on_click=jobs.cancel, args=(job.id,))
            return
        ended = (
            _left_behind(job)
            if job.state == "cancelled"
            else f":material/error: {ui.for_markdown(ui.in_words_of_the_page(job.error))}"
        )
        text.markdown(ended)
        button.button("Dismiss", key=f"forget-{job.id}", width="stretch", on_click=jobs.forget, args=(job.id,))


def _left_behind(job: jobs.Job) -> str:
    """What a cancelled measurement has left."""
    if job.arguments[0] == "evaluate":
        return f"Cancelled. {jobs.KEPT['evaluate']}."
    return "Cancelled; tasks that were finished are among the measurements."
