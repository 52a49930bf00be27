"""What of a text that was read is looked at: which layers, features and tokens, in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.features.filters import KEPT
from app.shared import components as ui
from app.shared import state
from app.shared.resources import ask
from corrsteer_core.runs import measurements, run_facts
from corrsteer_core.runs.steering_set import SteeringSet

if TYPE_CHECKING:
    from corrsteer_core.inspection.firing import ReadText, Wanted, Where

EVERY, RANKED, PICKED = "all that fire", "only those with an r", "only those you picked"
IN_SET = "only those of set "
SORTS = {
    "value": "activation",
    "share": "activation within its layer",
    "r": "r (goes with success)",
    "tokens": "number of tokens",
}
AT = "fires_at"  # the token that is looked at
ALL_TOKENS = -1


@dataclass(frozen=True)
class Asked:
    """What the boxes above the table are set to."""

    wanted: Wanted
    ranked: bool
    sort: str


def draw(run: str, facts: run_facts.RunFacts, found: ReadText) -> Asked:
    """The boxes, and what they are set to."""
    from corrsteer_core.inspection.firing import Wanted

    with st.container(border=True):
        with st.container(horizontal=True):
            layers = st.multiselect("Layers", facts.layers, key="fires_layers", placeholder="all", width=230, **KEPT)
            sets = _members(run)
            which = st.selectbox(
                "Features", [EVERY, RANKED, *sets], key=f"fires_which-{run}", format_func=ui.plain, width=230, **KEPT
            )
            token = st.selectbox("Token", _tokens(found), key=AT, format_func=lambda one: _name(found, one), width=230)
            sort = st.selectbox(
                "Sort by", list(SORTS), format_func=SORTS.__getitem__, key="fires_sort", width=230, **KEPT
            )
        first, everywhere, where = _switches(found)
    chosen = None if token == ALL_TOKENS else token
    wanted = Wanted(tuple(layers), where, first=first, everywhere=everywhere, token=chosen, among=sets.get(which))
    return Asked(wanted, which == RANKED, sort)


def _switches(found: ReadText) -> tuple[bool, bool, Where]:
    """Which tokens and features are left out because they tell little: `first`, `everywhere` and `where` of `Wanted`."""
    with st.container(horizontal=True):
        without_first = st.toggle(
            "Without the very first token", value=True, key="fires_first",
            help="Whatever a text begins with, many features fire there, and strongly.", **KEPT,
        )  # fmt: skip
        without_everywhere = st.toggle(
            "Without features that fire everywhere", value=True, key="fires_everywhere",
            help="Those that fire at more than half of the tokens say little about any of them.", **KEPT,
        )  # fmt: skip
        only_pooled = bool(found.text.answer) and st.toggle(
            "Only where a run looks", key="fires_where",
            help="The last prompt token and every generated token but the last: there the run's r comes from.", **KEPT,
        )  # fmt: skip
    return not without_first, not without_everywhere, "generation" if only_pooled else "all"


def _members(run: str) -> dict[str, frozenset[tuple[int, int]]]:
    """What the features may be narrowed to, by how it is called: the run's sets, and what was picked in this tab."""
    found = {}
    for row in ask(measurements.sets, run).itertuples():
        steering = SteeringSet.from_json(row.body, f"The set {row.name}")
        found[f"{IN_SET}{row.name}"] = frozenset((one.layer, one.feature) for one in steering.rows)
    if tray := state.tray():
        found[PICKED] = frozenset((one["layer"], one["feature"]) for one in tray)
    return found


def _tokens(found: ReadText) -> list[int]:
    return [ALL_TOKENS, *(span.start for span in found.spans if found.parts[span.start] != "around")]


def _name(found: ReadText, token: int) -> str:
    return "all" if token == ALL_TOKENS else f"{token + 1}: {named_token(found.label(token))}"


def named_token(text: Any) -> str:
    """A token with its spaces and line breaks to be seen, and nothing that acts."""
    return ui.plain(text).replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or "(nothing visible)"
