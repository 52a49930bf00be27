"""The whole Steer page kept: as a link to hand on, as a file, and put back from either."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from app.shared import components
from app.steer import snapshot
from app.steer.answers import question_form
from app.steer.desk import Desk, file_stem, handed_out
from app.steer.snapshot import Snapshot
from corrsteer_core.base.errors import CorrSteerError

LINKED = "page"
FOLLOWED = "followed"


def draw(desk: Desk) -> None:
    """The page as it is now, set and question, to download and to link to."""
    now = Snapshot(handed_out(desk.editor.current), desk.question)
    st.markdown("**This page: set, prompt and settings**")
    st.download_button(
        "Download the page",
        now.to_json(),
        f"{file_stem(now.steering)} page.json",
        "application/json",
        key="download-page",
        width="stretch",
        on_click="ignore",
        icon=":material/download:",
        help="Load takes it again.",
    )
    word = now.to_link()
    if word is None:
        st.caption("The prompt is too long for a link; download the page instead.")
        return
    st.caption("A link to it, for everyone who is let into this app:")
    st.code(f"{_address()}?{urlencode({'run': desk.run, LINKED: word})}", language=None, wrap_lines=False)


def _address() -> str:
    return (st.context.url or "").split("?")[0]


def open_link(desk: Desk) -> None:
    """Put on the page what its link holds, once; afterwards the page is the user's, and its address says no more of it."""
    word = st.query_params.pop(LINKED, "")
    if not word or st.session_state.get(FOLLOWED) == word:  # a browser may send an old address once more
        return
    st.session_state[FOLLOWED] = word
    try:
        show(desk, snapshot.from_link(word, desk.run, desk.config))
    except CorrSteerError as error:
        components.problem(error)


def show(desk: Desk, kept: Snapshot) -> None:
    """Put a kept page back, before its widgets are drawn. Raises CorrSteerError for a sample that the run lacks."""
    asked = question_form.put(kept.question) if kept.question else {}
    desk.load(kept.steering)
    st.session_state.update(asked)
