"""The scale of the whole set on the Steer page, and its rows, a card each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.shared import components, fields, resources, state
from app.steer import editing
from app.steer.desk import Desk
from app.steer.sets import row_doing
from corrsteer_core.runs import feature_facts
from corrsteer_core.runs.steering_set import SteeringRow
from corrsteer_core.statistics.rates import NOISE


def card(desk: Desk, row: SteeringRow) -> None:
    layer, feature = row.layer, row.feature
    key = f"row-{desk.run}-{layer}-{feature}"
    on = fields.key(f"{key}-on", row.enabled)
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            with st.container(key=f"name-{key}"):
                st.toggle(
                    f"Layer {layer} · feature {feature}",
                    row.enabled,
                    key=on,
                    width="stretch",
                    on_change=fields.hear,
                    args=(on, desk.editor.switch, layer, feature),
                )
            _feature_link(desk.run, layer, feature)
            components.icon_button(
                f"Remove feature {feature} of layer {layer} from the set",
                "close",
                f"{key}-out",
                type="tertiary",
                on_click=desk.editor.remove,
                args=(layer, feature),
            )
        found = resources.ask(feature_facts.one_feature, desk.run, layer, feature) or {}
        meaning = components.description(found.get("description"), found.get("description_source"))
        if meaning:
            st.markdown(components.for_markdown(meaning))
        st.caption(components.for_markdown(_where_from(row, found)), help=row_doing.HELP)
        row_doing.draw(desk, row, key)
        if row.operation != "ablate":
            _strength(desk, row, key)


def _feature_link(run: str, layer: int, feature: int) -> None:
    page = st.session_state.get(state.PAGES, {}).get("features")
    if page is not None:
        query = {"run": run, "layer": str(layer), "feature": str(feature)}
        hint = f"The texts in which feature {feature} of layer {layer} is active"
        with st.container(key=f"look-{layer}-{feature}", width="content"):
            # What is emphasized is for screen readers (components.STYLE): by "Look" alone they could not tell the cards.
            st.page_link(page, label=f"Look *at feature {feature} of layer {layer}*", query_params=query, help=hint)


def _where_from(row: SteeringRow, found: Mapping[str, Any]) -> str:
    """The row's note, and its coefficient against what is usual for the feature; `found` is what the run knows of it."""
    usual = found.get("coefficient")
    if row.operation == "ablate":
        now = ""
    elif usual:
        held = {"clamp": "held at ", "cap": "held at most at "}.get(row.operation, "")
        now = f"Now {held}{row.coefficient / usual:.1f} times its usual coefficient."
    else:
        where = "fires in no successful training sample" if found else "is silent in the training samples"
        now = f"This feature {where}, so it has no usual coefficient."
        now += "" if row.coefficient or row.operation != "add" else " With coefficient 0 it does nothing."
    said = (
        row.note,
        "" if "alone" in row.note else _effect_alone(found),
        now,
        f"Acts only {row.when}" if row.when else "",
    )
    return " ".join(part if part.endswith(".") else f"{part}." for part in said if part)


def _effect_alone(found: Mapping[str, Any]) -> str:
    """What steering with this feature alone did to the validation samples, at the scale where it did best."""
    effect: float | None = found.get("effect")
    if effect is None:
        return "Not tried alone"
    p = components.p_value(found["effect_p"])
    alone = f"{components.points(effect)} steered alone, at best ({found['effect_scale']:g}×, {p})"
    return f"Harmful: {alone}" if effect < 0 and found["effect_p"] < NOISE else alone


def _strength(desk: Desk, row: SteeringRow, key: str) -> None:
    """The coefficient as slider and number: two views of the one value that the set holds."""
    values = resources.ask_fit(feature_facts.pooled_values, desk.run, row.layer, row.feature)["value"]
    end = _slider_end(float(values.max()) if len(values) else 0.0, row.coefficient)
    change = (desk.attempt, desk.editor.strengthen, row.layer, row.feature)
    name = f"Coefficient of feature {row.feature} of layer {row.layer}"
    sliding, typing = st.columns([4, 4], vertical_alignment="bottom", gap="small")
    slider, number = (fields.key(f"{key}-{kind}", row.coefficient) for kind in ("slider", "number"))
    sliding.slider(
        f"{name}, as a slider",
        -end,
        end,
        row.coefficient,
        step=end / 100,
        format="%.3g",
        key=slider,
        disabled=not row.enabled,
        on_change=fields.hear,
        label_visibility="collapsed",
        args=(slider, *change),
    )
    typing.number_input(
        name,
        -editing.STRONGEST,
        editing.STRONGEST,
        row.coefficient,
        step=end / 40,
        format="%.2f",
        key=number,
        disabled=not row.enabled,
        label_visibility="collapsed",
        on_change=fields.hear,
        args=(number, *change),
    )


def _slider_end(strongest: float, coefficient: float) -> float:
    """Four times the strongest activation (more if the coefficient is beyond it), rounded up to two digits."""
    end = max(4 * strongest, 1.25 * abs(coefficient)) or 1.0
    unit = 10.0 ** (math.floor(math.log10(end)) - 1)
    return math.ceil(end / unit - 1e-9) * unit


def scale_of_all(desk: Desk) -> None:
    """The number that multiplies all; it stays in sight (the page's STYLE) while the cards scroll by."""
    if not desk.editor.current.rows:
        return
    scale = float(desk.editor.current.scale)
    key = fields.key(f"scale-{desk.run}", scale)
    with st.container(key="pinned-scale"):
        st.number_input(
            "Global scale",
            -editing.LARGEST_SCALE,
            editing.LARGEST_SCALE,
            scale,
            step=0.25,
            format="%.2f",
            key=key,
            on_change=fields.hear,
            args=(key, desk.editor.rescale),
            help="Multiplies every coefficient that is added; what is clamped, capped or ablated stays so. 0 gives the "
            "unsteered answer, whatever the set does; a negative scale pushes the other way.",
        )
