"""Report: the run as one page for people who will not open the app, to look at here and to download."""

from __future__ import annotations

import base64

import streamlit as st

from app.shared import components, resources, state
from corrsteer_core.base.addresses import PAGE, Address, address_of
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.reporting import report
from corrsteer_core.reporting.report import Theme

HEIGHT = 820


def page() -> None:
    """Draw the page."""
    st.title("Report")
    st.markdown(
        "This run in one file, for people who will not open the app: what was asked, what was found, examples, what it is "
        "worth and how it was made."
    )
    run = state.current_run()
    if run is None:
        components.nothing_yet("There is nothing to report yet.", "Start a run first, on the page of that name.")
        return
    at = resources.stamp(run)
    address = _address()
    whole = _html(at, address=address)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download the report",
            whole,
            f"{run}.html",
            "text/html",
            type="primary",
            icon=":material/download:",
            on_click="ignore",
        )
        st.caption(
            f"One HTML file of {len(whole.encode()) / 1000:.0f} kB. It opens offline, prints, and loads nothing."
        )
    # As an address of its own, the page stands outside the app: it could not reach it even if it held a script.
    preview = base64.b64encode(_html(at, "dark" if components.is_dark() else "light", address).encode()).decode()
    with st.container(border=True):
        st.iframe(f"data:text/html;base64,{preview}", height=HEIGHT, alt="The report as it will look")


@st.cache_data(max_entries=8, show_spinner="Writing the report …")
def _html(at: resources.Stamp, theme: Theme = "", address: Address | None = None) -> str:
    """The report of a run in this state."""
    return report.html(at.run, theme, address)


def _address() -> Address | None:
    """Where the app is, as this browser knows it; None where no browser says."""
    here = (st.context.url or "").removesuffix(f"/{PAGE}")
    try:
        return address_of(here) if here else None
    except CorrSteerError as error:
        components.problem(error)
        return None
