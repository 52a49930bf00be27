"""What a browser tab works with on the Steer page: a run, the set that is edited, and what is asked at present."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
import streamlit as st

from app.shared import components, resources, state
from app.steer.editing import Editor
from app.steer.playing import Question
from corrsteer_core.base import presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import run_facts, stored_run
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.runs.strategies import PREFERRED


@dataclass(frozen=True)
class Note:
    """What is to be said once, at the next drawing of the page."""

    kind: Literal["done", "problem"]
    text: str


@dataclass
class Desk:
    """What a tab works with on the Steer page: a run and the set it edits."""

    run: str
    config: RunConfig
    editor: Editor
    begun: pd.Timestamp
    """When the run was: one that is deleted and made again has the same name."""
    question: Question | None = None
    """What is asked at present; None while there is no prompt."""
    note: Note | None = None

    @property
    def untouched(self) -> bool:
        """Whether it is as empty as it was found."""
        editor = self.editor
        return not (editor.current.rows or editor.edited or editor.can_undo or editor.can_redo)

    def load(self, steering: SteeringSet) -> None:
        """Start from another set."""
        self.editor.load(steering)

    def attempt(self, action: Callable[..., None], *arguments: object, done: str = "", close: str = "") -> None:
        """Do what a button asks for; what went wrong, or `done`, is said at the next drawing.

        `close` names the popover (see `popover`) that is closed if it went well.
        """
        try:
            action(*arguments)
        except CorrSteerError as error:
            self.note = Note("problem", str(error))
            return
        if done:
            self.note = Note("done", done)
        if close:
            st.session_state[_closed(close)] = st.session_state.get(_closed(close), 0) + 1


def popover(label: str, icon: str) -> Any:
    """What a button of the toolbar opens. `Desk.attempt` closes it by making another of it.

    To set its state to closed is not sure to: the browser may send the old state along with what it asks next.
    """
    times = st.session_state.get(_closed(label), 0)
    return st.popover(label, icon=f":material/{icon}:", key=f"{label}-{times}", on_change="rerun")


def _closed(label: str) -> str:
    """Where the number of times is kept that a popover has been closed."""
    return f"{label}-closed"


def open_desks() -> dict[str, Desk]:
    """The desks of this tab, by run."""
    return st.session_state.setdefault(state.DESKS, {})


def desk_of(run: str) -> Desk:
    """This tab's desk for a run, with the run's best automatic set on it as soon as there is one."""
    desks = open_desks()
    begun = resources.ask(run_facts.facts, run).created
    found = desks.get(run)
    if found is None or found.begun != begun:
        config, _ = stored_run.stored(run)
        found = desks[run] = Desk(run, config, Editor.of(stored_run.empty_set_of(run, config)), begun)
        linked = st.query_params.get("set")
        if linked and linked not in kept_sets(run):
            name = components.shortened(linked, 40)
            found.note = Note("problem", f"This run has no set named {name}; Load lists those it has.")
    if found.untouched and (first := _first(run)):
        found.editor = Editor.of(first)
    return found


def _first(run: str) -> SteeringSet | None:
    """The set to begin with: the one that the link names, that the first page tells of, or the best automatic one."""
    kept = kept_sets(run)
    told = resources.ask(run_facts.headline, run) or {}
    for name in (st.query_params.get("set", ""), told.get("set", "")):
        if name in kept and (kept[name].rows or name != told.get("set")):
            return kept[name]
    automatic = [kept[name] for name in PREFERRED if name in kept]
    return next((one for one in automatic if one.rows), automatic[0] if automatic else None)


def kept_sets(run: str) -> dict[str, SteeringSet]:
    """The sets kept with a run, by name, oldest first."""
    return resources.ask(stored_run.kept_sets, run)


def handed_out(steering: SteeringSet) -> SteeringSet:
    """A set as it may leave the app: where that is read-only, without the folders of this machine."""
    saes = tuple(replace(sae, source=presenting.named(sae.source)) for sae in steering.saes)
    return replace(steering, model=presenting.named(steering.model), saes=saes)


def file_stem(steering: SteeringSet) -> str:
    """A file name for a set, without ending."""
    name = components.shortened(steering.name, 40).replace("/", "-").replace("\\", "-").lstrip(".")
    return name or "set"
