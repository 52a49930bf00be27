"""What is said while the model works on a feature, and where it could not."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.features import drawing
from app.shared import components as ui

POLL = 0.5  # seconds between looks at work in the background


def profile(work: drawing.Work, run: str, layer: int, feature: int) -> None:
    """That the model is at work, until it is done; or why it cannot be."""
    if not work.ready:
        wait_for(work, "Tokens and texts follow here.")
    elif work.problem:
        ui.problem(f"The parts of this page that need the model are missing: {work.problem}")
        st.button(
            "Try again",
            on_click=drawing.try_again,
            args=(run, layer, feature),
            key="profile_again",
        )


def result_of(work: drawing.Work | None, follows: str) -> Any:
    """What was worked out; None, and that is said, while it is not there yet and where it could not be."""
    if work is not None and not work.ready:
        wait_for(work, follows)
    elif work is not None and work.problem:
        ui.problem(work.problem)
    elif work is not None:
        return work.result
    return None


def wait_for(work: drawing.Work, follows: str) -> None:
    """Say what is being worked out and what will come of it, and draw the page again once it is there."""

    def look() -> None:
        if work.ready:
            st.rerun()
        work.keep_alive()
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":material/hourglass_top: {work.stage} … {follows}", width="content")
            st.button("Cancel", icon=":material/stop:", key="cancel_drawing", on_click=work.cancel)

    st.fragment(look, run_every=POLL)()
