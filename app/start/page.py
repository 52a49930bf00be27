"""Start a run: what is asked, who answers, how the prompts will read, how long it takes."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app.shared import components as ui
from app.start import prompts_panel, question, settings, starting
from corrsteer_core.base import presenting
from corrsteer_core.base.paths import EMBEDDED

BEGIN = {
    "new_run_kind": question.BUILT_IN,
    "new_run_model": EMBEDDED,
    "new_run_sae": "embedded",
    "new_run_shots": 0,
}
"""What fields hold at first, where that is not nothing."""
KEPT = "start_kept"
"""What the fields held when the page was last drawn: a visit to another page empties them."""


def page() -> None:
    """Draw the page."""
    st.title("Start a run")
    if presenting.on():  # it is in no menu then; its address may be known
        ui.nothing_yet("Runs are not started here.", "This app is open for looking and steering only.")
        return
    st.markdown(
        "One model answers the samples of one task while its features are read; then they are ranked by how they go with "
        "success."
    )
    _restore()
    what, who, how, reads, go = (st.container() for _ in range(5))
    with what:
        st.subheader("What is asked", anchor=False)
        asked = question.draw()
    with who:
        st.subheader("Who answers", anchor=False)
        pairing = settings.pairing()
    with how:
        chosen = settings.settings()
    with go.container(border=True):
        button, limit, time = st.columns([1.1, 1.5, 3.2], vertical_alignment="center")
        with limit:
            chosen = replace(chosen, limit=settings.limit())
        found = asked.taken(chosen.limit, chosen.shots)
        starting.draw(button, time, asked, found, pairing, chosen)
    with reads:
        st.subheader("How the prompts will read", anchor=False)
        prompts_panel.draw(asked, found, chosen, pairing.name)
    _keep()


def _restore() -> None:
    for name, value in {**BEGIN, **st.session_state.get(KEPT, {})}.items():
        if name not in st.session_state:
            st.session_state[name] = value


def _keep() -> None:
    fields = {name: st.session_state[name] for name in st.session_state if str(name).startswith("new_run_")}
    st.session_state[KEPT] = {
        name: value for name, value in fields.items() if name not in ("new_run_file", "new_run_start")
    }
