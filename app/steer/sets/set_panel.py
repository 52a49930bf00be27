"""The left half of the Steer page: the steering set that is being edited."""

from __future__ import annotations

import streamlit as st

from app.shared import components
from app.steer.desk import Desk, kept_sets, popover
from app.steer.editing import Editor
from app.steer.sets import adding, set_files, set_rows
from corrsteer_core.base import presenting


def draw(desk: Desk) -> None:
    """The set with everything that changes it."""
    editor = desk.editor
    _say_in_link(desk)
    adding.take_picked(desk)
    _title(editor)
    _toolbar(desk)
    if desk.note is not None:
        note, desk.note = desk.note, None
        components.problem(note.text) if note.kind == "problem" else st.success(components.for_markdown(note.text))
    chosen = kept_sets(desk.run).get("V")
    if chosen is not None and not chosen.rows:
        st.caption("Set V is empty: no feature that was tried alone helped beyond noise.")
    if not editor.current.rows:
        components.nothing_yet(
            "The set is empty.", "Load one, or add a feature by its meaning or number. Empty, steered equals unsteered."
        )
    set_rows.scale_of_all(desk)
    for row in editor.current.rows:
        set_rows.card(desk, row)


def _say_in_link(desk: Desk) -> None:
    """Let the address name the run's set that this one started from; the one that was there by itself need not be."""
    start, named = desk.editor.start, st.query_params.get("set")
    if kept_sets(desk.run).get(start.name) != start:
        st.query_params.pop("set", None)
    elif start.name != named and (named or desk.editor.can_undo):
        st.query_params["set"] = start.name


def _title(editor: Editor) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        st.subheader(
            f"Set: {components.for_markdown(components.shortened(editor.current.name, 40))}",
            anchor=False,
            width="stretch",
            help="A steering set: features in the model's inner state, each added with a coefficient of its own "
            "while the model answers.",
        )
        with st.container(horizontal=True, gap="xsmall", width="content"):  # on a narrow page they stay together
            _back_and_on(editor)


def _back_and_on(editor: Editor) -> None:
    """Undo, redo, and all the way back."""
    reset = f"Reset: go back to {components.for_markdown(editor.start.name)} as it was loaded"
    for label, icon, key, possible, change in (
        ("Undo the last change", "undo", "undo", editor.can_undo, editor.undo),
        ("Redo what was undone last", "redo", "redo", editor.can_redo, editor.redo),
        (reset, "restart_alt", "reset", editor.edited, editor.reset),
    ):
        components.icon_button(label, icon, key, type="tertiary", disabled=not possible, on_click=change)


def _toolbar(desk: Desk) -> None:
    with st.container(horizontal=True, gap="xxsmall"):
        with popover("Load", "folder_open"):
            set_files.load(desk)
        with popover("Add", "add"):
            adding.form(desk)
        label, icon = ("Download", "download") if presenting.on() else ("Save", "save")
        with popover(label, icon):
            set_files.save(desk)
