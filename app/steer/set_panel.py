"""The left half of the Steer page: the steering set that is being edited."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import components, resources, state
from app.steer import editing, exporting, keeping, snapshot
from app.steer.editing import Editor
from app.steer.playing import Question
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import feature_facts, measurements, run_facts, stored_run
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet

NOTE = "steer_note"
REPLACING = "replacing"  # a set that waits for a word before it takes the place of another of its name
KINDS = {
    "S": "the one feature that goes best with success",
    "A": "the best-correlated feature of each layer",
    "P": "those of A that help when steered alone",
    "V": "chosen by what they do, not by correlation",
}
PREFERRED = ("V", "P", "S", "A")
BUSY = 1.0  # seconds that saving waits for a run that is being written: whoever pressed waits too


@dataclass
class Desk:
    """What a tab works with on the Steer page: a run and the set it edits."""

    run: str
    config: RunConfig
    editor: Editor
    begun: pd.Timestamp
    """When the run was: one that is deleted and made anew has the same name."""
    question: Question | None = None
    """What is asked at present; None while there is no prompt."""

    @property
    def untouched(self) -> bool:
        """Whether it is as empty as it was found."""
        return not (self.editor.current.rows or self.editor.edited or self.editor.can_undo)

    def load(self, steering: SteeringSet) -> None:
        """Start from another set."""
        self.editor.load(steering)


def desk(run: str) -> Desk:
    """This tab's desk for a run, with the run's best automatic set on it as soon as there is one."""
    desks: dict[str, Desk] = st.session_state.setdefault("desks", {})
    begun = resources.ask(run_facts.facts, run).created
    found = desks.get(run)
    if found is None or found.begun != begun:
        config, _ = stored_run.stored(run)
        found = desks[run] = Desk(run, config, Editor.of(editing.empty(run, config)), begun)
        linked = st.query_params.get("set")
        if linked and linked not in _kept(run):
            name = components.shortened(linked, 40)
            st.session_state[NOTE] = ("problem", f"This run has no set named {name}; Load lists those it has.")
    if found.untouched and (first := _first(run)):
        found.editor = Editor.of(first)
    return found


def _first(run: str) -> SteeringSet | None:
    """The set to begin with: the one that the link names, else the best automatic one, with rows if there is one."""
    kept = _kept(run)
    if (linked := st.query_params.get("set", "")) in kept:
        return kept[linked]
    automatic = [kept[name] for name in PREFERRED if name in kept]
    return next((one for one in automatic if one.rows), automatic[0] if automatic else None)


def draw(desk: Desk) -> None:
    """The set with everything that changes it."""
    editor = desk.editor
    _say_in_link(desk)
    _title(editor)
    _toolbar(desk)
    if note := st.session_state.pop(NOTE, None):
        components.problem(note[1]) if note[0] == "problem" else st.success(components.for_markdown(note[1]))
    _waiting(desk)
    chosen = _kept(desk.run).get("V")
    if chosen is not None and not chosen.rows:
        st.caption("Set V is empty: no feature that was tried alone helped beyond noise.")
    if not editor.current.rows:
        components.nothing_yet(
            "The set is empty.", "Load one, or add a feature by its number. Empty, steered equals unsteered."
        )
    for row in editor.current.rows:
        _card(desk, row)
    _scale(desk)


def _kept(run: str) -> dict[str, SteeringSet]:
    found = resources.ask(measurements.sets, run)
    return {row.name: SteeringSet.from_json(row.body, f"The set {row.name}") for row in found.itertuples()}


def _say_in_link(desk: Desk) -> None:
    """Let the address name the run's set that this one started from; the one that was there by itself need not be."""
    start, named = desk.editor.start, st.query_params.get("set")
    if _kept(desk.run).get(start.name) != start:
        st.query_params.pop("set", None)
    elif start.name != named and (named or desk.editor.can_undo):
        st.query_params["set"] = start.name


def _try(action, *arguments, done: str = "", close: str = "") -> None:
    """Do what a button asks for; what goes wrong is said at the next drawing of the page."""
    try:
        action(*arguments)
    except CorrSteerError as error:
        st.session_state[NOTE] = ("problem", str(error))
        return
    if done:
        st.session_state[NOTE] = ("done", done)
    if close:
        st.session_state[f"{close}-closed"] = st.session_state.get(f"{close}-closed", 0) + 1


# --- loading, saving, undoing --------------------------------------------------------------------


def _title(editor: Editor) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        st.subheader(
            f"Set: {components.for_markdown(components.shortened(editor.current.name, 40))}",
            anchor=False,
            width="stretch",
            help="A steering set: features of the model's inner workings, each added with a strength of its own "
            "while the model answers.",
        )
        components.icon_button(
            "Undo the last change",
            "undo",
            "undo",
            type="tertiary",
            disabled=not editor.can_undo,
            on_click=editor.undo,
        )
        reset = f"Reset: go back to {components.for_markdown(editor.start.name)} as it was loaded"
        components.icon_button(
            reset, "restart_alt", "reset", type="tertiary", disabled=not editor.edited, on_click=editor.reset
        )


def _toolbar(desk: Desk) -> None:
    with st.container(horizontal=True, gap="xsmall"):
        with _popover("Load", "folder_open"):
            _load(desk)
        with _popover("Add", "add"):
            _add(desk)
        with _popover("Save", "save"):
            _save(desk)


def _popover(label: str, icon: str) -> Any:
    """What a button of the toolbar opens. `_try` closes it by making another of it.

    To set its state to closed is not sure to: the browser may send the old state along with what it asks next.
    """
    times = st.session_state.get(f"{label}-closed", 0)
    return st.popover(label, icon=f":material/{icon}:", key=f"{label}-{times}", on_change="rerun")


def _load(desk: Desk) -> None:
    kept = _kept(desk.run)
    st.markdown("**Sets of this run**")
    if not kept:
        st.caption("None yet; an automatic choice (S, A or V) is made by `select` or the demo.")
    for name, steering in kept.items():
        label = components.for_markdown(f"{name}: {KINDS.get(name, 'saved by hand')} ({_counted(steering)})")
        st.button(
            label,
            key=f"load-{name}",
            width="stretch",
            on_click=_try,
            args=(desk.load, steering),
            kwargs={"close": "Load"},
        )
    nothing = editing.empty(desk.run, desk.config)
    st.button(
        "An empty set",
        key="load-nothing",
        width="stretch",
        on_click=_try,
        args=(desk.load, nothing),
        kwargs={"close": "Load"},
    )
    st.file_uploader(
        "A set or a page from a file", type=["json"], key="set_file", on_change=_upload, args=(desk,), max_upload_size=2
    )


def _upload(desk: Desk) -> None:
    file = st.session_state.get("set_file")
    if file is None:
        return
    name = components.shortened(file.name, 60)
    _try(
        lambda: keeping.show(desk, snapshot.from_file(file.getvalue(), name, desk.run, desk.config)),
        done=f"Loaded {name}.",
        close="Load",
    )


def _save(desk: Desk) -> None:
    current = desk.editor.current
    with st.form("save_set", border=False):
        own = current.name.removesuffix(editing.EDITED)
        proposed = "" if own in editing.STRATEGIES else own
        box = f"save_name-{own}"
        st.text_input("Name", value=proposed, key=box, max_chars=60, placeholder="my set")
        st.form_submit_button(
            "Save with the run", on_click=_try, args=(_save_as, desk, box), width="stretch", icon=":material/save:"
        )
    _replacing(desk)
    st.download_button(
        "Download the set",
        current.to_json(),
        f"{exporting.file_stem(current)}.json",
        "application/json",
        width="stretch",
        on_click="ignore",
        icon=":material/download:",
    )
    keeping.draw(desk)
    try:
        exporting.draw(current)
    except CorrSteerError as error:
        components.problem(error)


def _save_as(desk: Desk, box: str) -> None:
    """Save under the name in the box, unless it is another set's: then only once that has been said."""
    steering = desk.editor.named(st.session_state[box])
    if _kept(desk.run).get(steering.name, steering) != steering:
        st.session_state[REPLACING] = steering
    else:
        _keep(desk, steering)


def _replacing(desk: Desk) -> None:
    """That the name is taken, and the way to save under it all the same."""
    steering: SteeringSet | None = st.session_state.get(REPLACING)
    if steering is None or steering != replace(desk.editor.current, name=steering.name):
        return
    name = components.for_markdown(components.shortened(steering.name, 40))
    st.warning(f"**{name}** is the name of another set of this run. Save under another name, or replace that set.")
    st.button("Replace it", key="replace_set", width="stretch", on_click=_keep, args=(desk, steering))


def _keep(desk: Desk, steering: SteeringSet) -> None:
    def keep() -> None:
        st.session_state.pop(REPLACING, None)
        stored_run.keep_set(desk.run, steering, wait=BUSY)
        desk.editor.saved(steering)

    _try(keep, done="Saved with the run; Load lists it.", close="Save")


# --- features that come from elsewhere -----------------------------------------------------------


def _add(desk: Desk) -> None:
    sizes = {sae.layer: sae.d_sae for sae in desk.config.saes}
    with st.form("add_feature", border=False):
        st.selectbox("Layer", sorted(sizes), key="add_layer")
        st.number_input("Feature number", 0, max(sizes.values()) - 1, 0, key="add_feature_number")
        st.number_input(
            "Coefficient",
            -editing.STRONGEST,
            editing.STRONGEST,
            None,
            key="add_coefficient",
            placeholder="its usual strength",
            help="How much of it is added, in units of its own activation. Empty: its mean over successful answers.",
        )
        st.form_submit_button(
            "Add to the set", on_click=_try, args=(_added, desk), kwargs={"close": "Add"}, width="stretch"
        )


def _added(desk: Desk) -> None:
    layer, feature = int(st.session_state["add_layer"]), int(st.session_state["add_feature_number"])
    found = resources.ask(feature_facts.one_feature, desk.run, layer, feature) or {}
    coefficient = st.session_state["add_coefficient"]
    if coefficient is None and not (coefficient := found.get("coefficient")):
        raise CorrSteerError(
            f"Feature {feature} of layer {layer} fired in no successful training sample of this run, so it has no usual "
            f"strength; give a coefficient."
        )
    desk.editor.add(layer, feature, coefficient, _note(found))


def _waiting(desk: Desk) -> None:
    """Features picked on the Features page."""
    picked = state.tray()
    if not picked:
        return
    with st.container(border=True):
        names = ", ".join(f"{row['layer']} · {row['feature']}" for row in picked[:6]) + (
            " …" if len(picked) > 6 else ""
        )
        st.markdown(f"**Picked on the Features page:** {names}")
        with st.container(horizontal=True):
            st.button("Add to the set", key="tray_add", type="primary", on_click=_try, args=(_take, desk))
            st.button("Leave out", key="tray_drop", on_click=_clear_tray)


def _take(desk: Desk) -> None:
    there = {(row.layer, row.feature) for row in desk.editor.current.rows}
    for row in state.tray():
        if (row["layer"], row["feature"]) not in there:
            found = resources.ask(feature_facts.one_feature, desk.run, row["layer"], row["feature"]) or {}
            desk.editor.add(row["layer"], row["feature"], row["coefficient"], _note(found))
    _clear_tray()


def _clear_tray() -> None:
    st.session_state[state.TRAY] = []


def _note(found: dict) -> str:
    """Where a row added by hand comes from."""
    if not found:
        return "added by hand"
    note = f"added by hand, r {components.signed(found.get('r'))}"
    if not components.missing(found.get("effect")):
        note += f", best effect alone {components.points(found['effect'])} at {found['effect_scale']:g}x"
    return note


# --- one row, and the scale of all ---------------------------------------------------------------


def _card(desk: Desk, row: SteeringRow) -> None:
    layer, feature = row.layer, row.feature
    key = f"row-{desk.run}-{layer}-{feature}"
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            _shown(f"{key}-on", row.enabled)
            with st.container(key=f"name-{key}"):
                st.toggle(
                    f"Layer {layer} · feature {feature}",
                    row.enabled,
                    key=f"{key}-on",
                    width="stretch",
                    on_change=_switch,
                    args=(desk, layer, feature, f"{key}-on"),
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
        st.caption(components.for_markdown(_where_from(desk.run, row)))
        _strength(desk, row, key)


def _feature_link(run: str, layer: int, feature: int) -> None:
    page = st.session_state.get(state.PAGES, {}).get("features")
    if page is not None:
        query = {"run": run, "layer": str(layer), "feature": str(feature)}
        hint = f"The texts in which feature {feature} of layer {layer} is active"
        with st.container(key=f"look-{layer}-{feature}", width="content"):
            # What is emphasized is for screen readers (components.STYLE): by "Look" alone they could not tell the cards.
            st.page_link(page, label=f"Look *at feature {feature} of layer {layer}*", query_params=query, help=hint)


def _where_from(run: str, row: SteeringRow) -> str:
    """The row's note, and its coefficient against what is usual for the feature."""
    found = resources.ask(feature_facts.one_feature, run, row.layer, row.feature)
    usual = (found or {}).get("coefficient")
    if usual:
        now = f"Now {row.coefficient / usual:.1f} times its usual strength."
    else:
        where = "fires in no successful training sample" if found else "is silent in the training samples"
        now = f"This feature {where}, so it has no usual strength."
        now += "" if row.coefficient else " With coefficient 0 it does nothing."
    return f"{row.note}. {now}" if row.note else now


def _strength(desk: Desk, row: SteeringRow, key: str) -> None:
    """The coefficient as slider and number: two views of the one value that the set holds."""
    values = resources.ask_fit(feature_facts.pooled_values, desk.run, row.layer, row.feature)["value"]
    end = _slider_end(float(values.max()) if len(values) else 0.0, row.coefficient)
    arguments = (desk, row.layer, row.feature)
    name = f"Coefficient of feature {row.feature} of layer {row.layer}"
    sliding, typing = st.columns([5, 3], vertical_alignment="bottom", gap="small")
    sliding.caption(
        "Coefficient",
        help="How much of the feature is added, in units of its own activation; below 0 it is taken away. "
        "The slider ends at four times the strongest activation seen in this run.",
    )
    _shown(f"{key}-slider", row.coefficient)
    sliding.slider(
        f"{name}, as a slider",
        -end,
        end,
        row.coefficient,
        step=end / 100,
        format="%.3g",
        key=f"{key}-slider",
        disabled=not row.enabled,
        on_change=_strengthen,
        label_visibility="collapsed",
        args=(*arguments, f"{key}-slider"),
    )
    _shown(f"{key}-number", row.coefficient)
    typing.number_input(
        name,
        -editing.STRONGEST,
        editing.STRONGEST,
        row.coefficient,
        step=end / 40,
        format="%.2f",
        key=f"{key}-number",
        disabled=not row.enabled,
        label_visibility="collapsed",
        on_change=_strengthen,
        args=(*arguments, f"{key}-number"),
    )


def _slider_end(strongest: float, coefficient: float) -> float:
    """Four times the strongest activation (more if the coefficient is beyond it), rounded up to two digits."""
    end = max(4 * strongest, 1.25 * abs(coefficient)) or 1.0
    unit = 10.0 ** (math.floor(math.log10(end)) - 1)
    return math.ceil(end / unit - 1e-9) * unit


def _shown(key: str, value: object) -> None:
    """Let a widget show what the set holds, whoever changed it.

    The widget must be given the value as its default too: a browser that misses the drawing in which the value came
    begins with the default, and says so to the set.
    """
    if st.session_state.get(key) != value:
        st.session_state[key] = value


def _switch(desk: Desk, layer: int, feature: int, key: str) -> None:
    desk.editor.switch(layer, feature, bool(st.session_state[key]))


def _strengthen(desk: Desk, layer: int, feature: int, key: str) -> None:
    value = st.session_state[key]
    if value is not None:
        _try(desk.editor.strengthen, layer, feature, value)


def _scale(desk: Desk) -> None:
    if not desk.editor.current.rows:
        return
    key = f"scale-{desk.run}"
    _shown(key, float(desk.editor.current.scale))
    st.number_input(
        "Global scale",
        -editing.LARGEST_SCALE,
        editing.LARGEST_SCALE,
        float(desk.editor.current.scale),
        step=0.25,
        format="%.2f",
        key=key,
        on_change=lambda: desk.editor.rescale(st.session_state[key]),
        help="Multiplies every coefficient. 0 gives the unsteered answer, a negative scale pushes the other way.",
    )


def _counted(steering: SteeringSet) -> str:
    return components.counted(len(steering.rows), "feature")
