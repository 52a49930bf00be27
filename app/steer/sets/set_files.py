"""Loading and saving the set on the Steer page: with the run, as a file, as the whole page."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app.shared import components, resources
from app.steer import editing, snapshot
from app.steer.desk import Desk, handed_out, kept_sets
from app.steer.sets import exporting, keeping
from corrsteer_core.base import presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.proof import evidence
from corrsteer_core.runs import stored_run
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.runs.strategies import STRATEGIES

REPLACING = "replacing"  # a set that waits for a word before it takes the place of another of its name
BUSY = 1.0  # seconds that saving waits for a run that is being written: whoever pressed waits too


def kind_of(name: str) -> str:
    """What a set of this name is, in words."""
    return STRATEGIES[name].what if name in STRATEGIES else "saved by hand"


def load(desk: Desk) -> None:
    kept = kept_sets(desk.run)
    st.markdown("**Sets of this run**")
    if not kept:
        st.caption("None yet; an automatic choice (S, A, P or V) is made by `select`.")
    for name, steering in kept.items():
        label = components.for_markdown(f"{name}: {kind_of(name)} ({_counted(steering)})")
        st.button(
            label,
            key=f"load-{name}",
            width="stretch",
            on_click=desk.attempt,
            args=(desk.load, steering),
            kwargs={"close": "Load"},
        )
    nothing = stored_run.empty_set_of(desk.run, desk.config)
    st.button(
        "An empty set",
        key="load-nothing",
        width="stretch",
        on_click=desk.attempt,
        args=(desk.load, nothing),
        kwargs={"close": "Load"},
    )
    if presenting.on():
        return
    st.file_uploader(
        "A set or a page from a file", type=["json"], key="set_file", on_change=_upload, args=(desk,), max_upload_size=2
    )


def _upload(desk: Desk) -> None:
    file = st.session_state.get("set_file")
    if file is None:
        return
    name = components.shortened(file.name, 60)
    desk.attempt(
        lambda: keeping.show(desk, snapshot.from_file(file.getvalue(), name, desk.run, desk.config)),
        done=f"Loaded {name}.",
        close="Load",
    )


def save(desk: Desk) -> None:
    current = desk.editor.current
    if not presenting.on():
        _save_with_the_run(desk)
    known = resources.ask(evidence.kept_evidence, desk.run, current)
    st.download_button(
        "Download the set",
        evidence.set_text(handed_out(current), known),
        f"{exporting.file_stem(current)}.json",
        "application/json",
        width="stretch",
        on_click="ignore",
        icon=":material/download:",
        help="It carries its measurement as evidence: corrsteer verify FILE measures it again." if known else None,
    )
    keeping.draw(desk)
    try:
        exporting.draw(desk.run, current)
    except CorrSteerError as error:
        components.problem(error)


def _save_with_the_run(desk: Desk) -> None:
    with st.form("save_set", border=False):
        own = desk.editor.current.name.removesuffix(editing.EDITED)
        proposed = "" if own in STRATEGIES else own
        box = f"save_name-{own}"
        st.text_input("Name", value=proposed, key=box, max_chars=60, placeholder="my set")
        st.form_submit_button(
            "Save with the run",
            on_click=desk.attempt,
            args=(_save_as, desk, box),
            width="stretch",
            icon=":material/save:",
        )
    _replacing(desk)


def _save_as(desk: Desk, box: str) -> None:
    """Save under the name in the box, unless it is another set's: then only once that has been said."""
    steering = desk.editor.named(st.session_state[box])
    if kept_sets(desk.run).get(steering.name, steering) != steering:
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

    desk.attempt(keep, done="Saved with the run; Load lists it.", close="Save")


def _counted(steering: SteeringSet) -> str:
    return components.counted(len(steering.rows), "feature")
