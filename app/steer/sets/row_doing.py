"""What is done with the feature of a row, and when: add, clamp, cap or ablate, folded away the conditions."""

from __future__ import annotations

import streamlit as st

from app.shared import fields
from app.steer import editing
from app.steer.desk import Desk
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.sets.rows import LATEST_START, OPERATIONS, Firing, SteeringRow

WORDS = {"add": "Add", "clamp": "Clamp", "ablate": "Ablate", "cap": "Cap"}
ALWAYS = -1
"""In place of a layer: the row waits for no feature."""
HELP = (
    "**Add**: so much of the feature is added, in units of its own activation; below 0 it is taken away. **Clamp**: its "
    "activation is held at the number. **Ablate**: its direction is taken out. **Cap**: its activation is held at most at "
    "the number. The slider ends at four times the strongest activation seen in this run. (?) marks a meaning that is a guess "
    "of our own."
)


def draw(desk: Desk, row: SteeringRow, key: str) -> None:
    """One line: what is done, and when."""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        _operation(desk, row, key)
        _conditions(desk, row, key)


def _operation(desk: Desk, row: SteeringRow, key: str) -> None:
    shown = fields.key(f"{key}-operation", row.operation)
    st.selectbox(
        f"What is done with feature {row.feature} of layer {row.layer}",
        OPERATIONS,
        OPERATIONS.index(row.operation),
        format_func=WORDS.__getitem__,
        key=shown,
        disabled=not row.enabled,
        label_visibility="collapsed",
        width=110,
        on_change=fields.hear,
        args=(shown, desk.attempt, desk.editor.operate, row.layer, row.feature),
    )


def _conditions(desk: Desk, row: SteeringRow, key: str) -> None:
    """When the row acts, on the button that opens the form in which it is said."""
    # Made anew with every change, so that the form shows what the set holds and is closed.
    form = f"when-{key}-{row.from_token}-{row.while_fires}"
    # What is emphasized is for screen readers (components.STYLE): by what is shown they could not tell the cards.
    label = f"{'Conditions' if row.when else 'At every token'} *of feature {row.feature} of layer {row.layer}*"
    with st.popover(label, key=form, disabled=not row.enabled):
        with st.form(f"{form}-form", border=False):
            st.number_input(
                "From generated token",
                0,
                LATEST_START,
                row.from_token,
                key=f"{form}-from",
                help="0: from the last token of the prompt on, so that the first word may change already.",
            )
            _waiting(desk, row, form)
            st.form_submit_button("Set", on_click=desk.attempt, args=(_set, desk, row, form), width="stretch")


def _waiting(desk: Desk, row: SteeringRow, form: str) -> None:
    """The feature that the row waits for."""
    fires = row.while_fires
    layers = [
        ALWAYS,
        *(one.layer for one in desk.editor.current.saes if one.layer <= row.layer),
    ]
    st.selectbox(
        "Only while a feature of this layer is active",
        layers,
        layers.index(fires.layer if fires else ALWAYS),
        format_func=lambda layer: "no condition" if layer == ALWAYS else f"Layer {layer}",
        key=f"{form}-layer",
    )
    largest = max(one.d_sae for one in desk.editor.current.saes) - 1
    number, above = st.columns(2)
    number.number_input(
        "Feature number",
        0,
        largest,
        fires.feature if fires else None,
        key=f"{form}-feature",
        placeholder="which",
    )
    above.number_input(
        "Active above",
        0.0,
        editing.STRONGEST,
        fires.above if fires else 0.0,
        key=f"{form}-above",
        help="In units of its activation, at the very token.",
    )


def _set(desk: Desk, row: SteeringRow, form: str) -> None:
    layer, feature = st.session_state[f"{form}-layer"], st.session_state[f"{form}-feature"]
    if layer != ALWAYS and feature is None:
        raise CorrSteerError(f"Say which feature of layer {layer} is to be active; give its number.")
    above = float(st.session_state[f"{form}-above"] or 0.0)
    fires = None if layer == ALWAYS else Firing(layer, int(feature), above)
    desk.editor.wait(row.layer, row.feature, int(st.session_state[f"{form}-from"] or 0), fires)
