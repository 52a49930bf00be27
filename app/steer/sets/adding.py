"""Features that come into the set: by meaning, by number, or picked on the Features page."""

from __future__ import annotations

import streamlit as st

from app.shared import components, resources, state
from app.steer import editing
from app.steer.desk import Desk, Note
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import feature_facts, feature_lists

COEFFICIENT = "add_coefficient"
CHOSEN = "add_described"
BY_MEANING, BY_NUMBER = "By meaning", "By number"
OFFERED = 500
"""Described features to choose from, those of highest r."""


def form(desk: Desk) -> None:
    """A feature chosen among those that are described, or by its number."""
    described: dict[tuple[int, int], str] = resources.ask(meanings, desk.run)
    how = BY_NUMBER
    if described:
        how = st.segmented_control(
            "How the feature is found", [BY_MEANING, BY_NUMBER], default=BY_MEANING, required=True, key="add_how",
            label_visibility="collapsed",
        )  # fmt: skip
    with st.form("add_feature", border=False):
        if how == BY_MEANING:
            _described(described)
        else:
            _numbered(desk)
        _coefficient()
        st.form_submit_button(
            "Add to the set", on_click=desk.attempt, args=(_added, desk, how), kwargs={"close": "Add"}, width="stretch"
        )


def meanings(run: str) -> dict[tuple[int, int], str]:
    """What the described features are said to mean, by layer and number, which stand before it."""
    rows = feature_lists.features(run, feature_lists.FeatureFilter(described=True), limit=OFFERED)
    said = [
        components.description(*one, in_table=True)
        for one in zip(rows["description"], rows["description_source"], strict=True)
    ]
    return {
        (row.layer, row.feature): f"{row.layer} · {row.feature}: {text}"
        for row, text in zip(rows.itertuples(), said, strict=True)
    }


def _described(described: dict[tuple[int, int], str]) -> None:
    st.selectbox(
        "Meaning", list(described), None, format_func=described.__getitem__, key=CHOSEN, placeholder="Type a word to search",
        help="The described features of this run, those of highest r first; before each its layer and number.",
    )  # fmt: skip


def _numbered(desk: Desk) -> None:
    sizes = {sae.layer: sae.d_sae for sae in desk.config.saes}
    st.selectbox("Layer", sorted(sizes), key="add_layer")
    st.number_input("Feature number", 0, max(sizes.values()) - 1, 0, key="add_feature_number")


def _coefficient() -> None:
    st.number_input(
        "Coefficient",
        -editing.STRONGEST,
        editing.STRONGEST,
        None,
        key=COEFFICIENT,
        placeholder="its usual coefficient",
        help="How much of it is added, in units of its own activation. Empty: its mean over successful answers.",
    )


def _added(desk: Desk, how: str) -> None:
    if how == BY_NUMBER:
        layer, feature = int(st.session_state["add_layer"]), int(st.session_state["add_feature_number"])
    elif (chosen := st.session_state[CHOSEN]) is not None:
        layer, feature = chosen
    else:
        raise CorrSteerError("No feature is chosen; type a word of its meaning and choose one of those listed.")
    found = resources.ask(feature_facts.one_feature, desk.run, layer, feature) or {}
    coefficient = st.session_state[COEFFICIENT]
    if coefficient is None and not (coefficient := found.get("coefficient")):
        raise CorrSteerError(
            f"Feature {feature} of layer {layer} fired in no successful training sample of this run, so it has no usual "
            f"coefficient; give one."
        )
    desk.editor.add(layer, feature, coefficient, _note(found))
    st.session_state[COEFFICIENT] = st.session_state[CHOSEN] = None  # the next feature has a coefficient of its own


def take_picked(desk: Desk) -> None:
    """Take features picked on the Features page into the set: there it was said that they are to be."""
    picked = state.tray()
    if not picked:
        return
    state.clear_tray()
    there = {(row.layer, row.feature) for row in desk.editor.current.rows}
    new = [row for row in picked if (row["layer"], row["feature"]) not in there]
    for row in new:
        found = resources.ask(feature_facts.one_feature, desk.run, row["layer"], row["feature"]) or {}
        desk.editor.add(row["layer"], row["feature"], row["coefficient"], _note(found))
    names = ", ".join(components.feature_name(row["layer"], row["feature"]) for row in new[:6])
    more = f" and {len(new) - 6} more" if len(new) > 6 else ""
    said = (
        f"Added to the set: {names}{more}. Undo takes it out again."
        if new
        else "What you picked is in the set already."
    )
    desk.note = Note("done", said)


def _note(found: dict) -> str:
    """Where a row added by hand comes from."""
    if not found:
        return "Added by hand"
    note = f"Added by hand, r {components.signed(found.get('r'))}"
    if not components.missing(found.get("effect")):
        note += f", best effect alone {components.points(found['effect'])} at {found['effect_scale']:g}x"
    return note
