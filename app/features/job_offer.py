"""Work that a page has done in the background: why one would want it, and a button that starts it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from corrsteer_core.base import jobs, presenting


def job_offer(arguments: Sequence[str], why: str, button: str, icon: str, *, title: str, running: str) -> None:
    """The command `arguments` behind a button, under the job's `title`; while it runs, `running` says so. Read-only: nothing."""
    if presenting.on():
        return
    if jobs.running(arguments):
        st.caption(f"{running}; the Overview page shows how far it is.")
        return
    left, right = st.columns([4, 1.4], vertical_alignment="center")
    left.markdown(why)
    if right.button(button, icon=icon, width="stretch"):
        jobs.start(arguments, title)
        st.rerun()
