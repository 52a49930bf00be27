"""Steer: switch features on, set how strongly, and read the unsteered and the steered answer side by side."""

from __future__ import annotations

import streamlit as st

from app.shared import components, state

STYLE = """<style>
:has(> .st-key-pinned-scale) { position: sticky; top: 0; z-index: 5; padding: .75rem 0 .5rem; background: %s; }
@media (min-width: 641px) and (max-width: 1100px) {
  .st-key-desk > * > [data-testid=stHorizontalBlock] > [data-testid=stColumn] { flex: 1 1 0; min-width: 0; }
}
</style>"""
"""The scale stays in sight, on the page's own ground; on a narrow page both halves are equally wide."""


def page() -> None:
    """Draw the page."""
    st.title("Steer")
    st.markdown(
        "Change how strongly features act while the model answers, and compare with the answer it gives on its own."
    )
    run = state.current_run()
    if run is None:
        components.nothing_yet(
            "There is nothing to steer yet.",
            "Start a run, on the page of that name; it finds the features that go with success.",
        )
        return
    st.html(STYLE % components.ground())
    with st.spinner("Getting ready …", show_time=False):
        # Here, because they load torch, which the other pages do without.
        from app.steer import browser_side, remembered
        from app.steer.answers import answers_panel, question_form
        from app.steer.desk import desk_of
        from app.steer.sets import keeping, set_panel

        answers_panel.bring_back(remembered.restore(run))
        desk = desk_of(run)
        keeping.open_link(desk)
    with st.container(key="desk"):
        left, right = st.columns([5, 8], gap="medium")
    with right:  # first: what is asked belongs to what the left half saves
        answers_panel.draw(desk)
    with left:
        set_panel.draw(desk)
    browser_side.draw(remembered.remember(desk, question_form.held(run), answers_panel.playing_now()))
