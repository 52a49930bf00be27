"""What one browser tab remembers: the run it looks at, the feature it has open, the features it has picked.

Everything lives in this tab's session and in its link, so two tabs never disturb each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import streamlit as st

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamlit.navigation.page import Page

RUN = "current_run"
TRAY = "tray"
PAGES = "pages"
DESKS = "desks"
"""What is worked with on the Steer page, by run: a `Desk` each, whose module loads torch."""
OF_THE_FEATURE = ("layer", "feature")
OF_THE_RUN = (*OF_THE_FEATURE, "set", "page", "desk")
"""What a link says of the run it names, and of no other run."""


class Picked(TypedDict):
    """A feature put aside on the Features page, for the Steer page."""

    layer: int
    feature: int
    coefficient: float


def current_run() -> str | None:
    """Name of the run this tab looks at; None while there is none."""
    return st.session_state.get(RUN)


def choose_run(run: str | None) -> None:
    """Look at another run; what else the link says belongs to the old one."""
    if run != current_run():
        _unlink(OF_THE_RUN)
    _look_at(run)


def follow_link(known: list[str], home: str | None) -> str | None:
    """Take the run from the link, else the one looked at before, else `home`; returns a name that is not cached."""
    linked = st.query_params.get("run")
    wanted = linked or current_run()
    if wanted and wanted not in known:
        _unlink(OF_THE_RUN)
    _look_at(wanted if wanted in known else home)
    return linked if linked and linked not in known else None


def _unlink(names: Iterable[str]) -> None:
    """Take names out of the link."""
    gone = set(names)
    if gone & set(st.query_params):  # in one step: the browser keeps every step, and Back would stop between two
        kept = {name: st.query_params.get_all(name) for name in st.query_params if name not in gone}
        st.query_params.from_dict(kept)


def _look_at(run: str | None) -> None:
    """Remember the run, drop what belongs to another one, and let the link say so."""
    if run != current_run():
        st.session_state[TRAY] = []
    st.session_state[RUN] = run
    if run is None:
        st.query_params.pop("run", None)
    elif st.query_params.get("run") != run:
        st.query_params["run"] = run


def tray() -> list[Picked]:
    """The features put aside in this tab, in the order they were picked."""
    return st.session_state.setdefault(TRAY, [])


def in_tray(layer: int, feature: int) -> bool:
    """Whether a feature has been put aside."""
    return any(row["layer"] == layer and row["feature"] == feature for row in tray())


def add_to_tray(layer: int, feature: int, coefficient: float) -> None:
    """Put a feature aside; once is enough."""
    if not in_tray(layer, feature):
        tray().append({"layer": layer, "feature": feature, "coefficient": coefficient})


def clear_tray() -> None:
    """Take all features out."""
    st.session_state[TRAY] = []


def remove_from_tray(layer: int, feature: int) -> None:
    """Take a feature out again."""
    st.session_state[TRAY] = [row for row in tray() if (row["layer"], row["feature"]) != (layer, feature)]


def current_feature() -> tuple[int, int] | None:
    """The (layer, feature) that the link names; None if it names none."""
    layer, feature = st.query_params.get("layer", ""), st.query_params.get("feature", "")
    if layer.isdecimal() and feature.isdecimal() and len(layer) < 5 and len(feature) < 10:
        return int(layer), int(feature)
    return None


def open_feature(layer: int, feature: int) -> None:
    """Show a feature: the link names it."""
    # In one step: the browser keeps every step, and Back would stop at one feature's layer with another's number.
    st.query_params.update({"layer": str(layer), "feature": str(feature)})


def close_feature() -> None:
    """Back to all features."""
    _unlink(OF_THE_FEATURE)


def remember_pages(pages: dict[str, Page]) -> None:
    """Keep the app's pages where other pages can link to them."""
    st.session_state[PAGES] = pages


def go_to(name: str, **parameters: object) -> None:
    """Open a page of the app, with the run and more in its link."""
    link = {"run": current_run(), **parameters}
    st.switch_page(
        st.session_state[PAGES][name],
        query_params={key: str(value) for key, value in link.items() if value is not None},
    )


def link_to(name: str, label: str) -> None:
    """A link to another page of the app."""
    st.page_link(st.session_state[PAGES][name], label=label)
