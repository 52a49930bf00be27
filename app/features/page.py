"""Features: all of them ranked over all layers, in a table and in pictures, and one of them from close by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from app.features import feature_panel, pictures, prediction_panel, ranking_table
from app.features.fires import pane as fires
from app.shared import by_class, state
from app.shared import components as ui
from app.shared.resources import ask
from corrsteer_core.reporting import prior_words, ranking_words
from corrsteer_core.runs import feature_lists, run_facts

EFFECTS, TABLE = "r and effect", "Table"
PANES: dict[str, Callable[[str, run_facts.RunFacts], None]] = {
    EFFECTS: pictures.effects,
    TABLE: ranking_table.draw,
    "Your text": fires.draw,
    "Predicted against measured": prediction_panel.draw,
    "r by layer": pictures.layers,
    "r by rank": pictures.ranks,
    "r and frequency": pictures.cloud,
    "Samples needed": pictures.convergence,
}
"""What the features are shown as. What they do comes first; while none has been tried, the table stands for it."""


def page() -> None:
    """Draw the page."""
    st.title("Features")
    run = state.current_run()
    if run is None:
        ui.nothing_yet("There is no run yet, so no features.", "Start one; the built-in tasks take a few minutes.")
        state.link_to("start", "Start a run")
        return
    facts: run_facts.RunFacts = ask(run_facts.facts, run)
    if facts.fit is None:
        done = f"{facts.collected:,} of {facts.samples:,} samples are answered."
        ui.nothing_yet("This run's features are not ranked yet.", f"{done} The Overview page shows how it goes on.")
        state.link_to("overview", "Open Overview")
        return
    chosen = state.current_feature()
    if chosen is not None:
        feature_panel.panel(run, facts, *chosen)
    else:
        _ranking(run, facts)


def _ranking(run: str, facts: run_facts.RunFacts) -> None:
    """All features: what the ranking amounts to, then the table or one of the pictures."""
    _what_it_amounts_to(run, facts)
    first = TABLE if ask(feature_lists.best_effects, run).empty else EFFECTS
    pane = st.segmented_control(
        "Show", list(PANES), default=first, required=True, key="pane", label_visibility="collapsed",
        persist_state="session",
    )  # fmt: skip
    PANES[pane](run, facts)


def _what_it_amounts_to(run: str, facts: run_facts.RunFacts) -> None:
    """Whether the ranking says anything, what of the prompts repeats, and what trying the features showed."""
    fit = facts.fit or {}
    ranking = ranking_words.of_ranking(fit, ask(run_facts.chance, run))
    if ranking.beyond_noise:
        st.caption(ui.for_markdown(ranking.sentence))
    else:
        st.warning(ui.for_markdown(ranking.sentence), icon=":material/casino:")
    if said := " ".join(ranking_words.of_repeats(facts.config)):
        st.caption(ui.for_markdown(said))
    measured = ask(run_facts.headline, run)
    tried = ranking_words.of_effects(ask(feature_lists.best_effects, run))
    if tried is not None and not fit["constant"]:
        st.markdown(f"**What steering showed:** {ui.for_markdown(tried.sentence)}")
    if measured is not None and prior_words.class_changes(measured):
        _by_kind(measured)


def _by_kind(measured: Mapping[str, Any]) -> None:
    """What the set that stands for the run does to each kind of answer."""
    rates = f"{ui.percent(measured['unsteered_rate'])} to {ui.percent(measured['steered_rate'])}"
    said = f"**Set {ui.for_markdown(measured['set'])} on unseen samples:** {ui.for_markdown(rates)}"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{said}. {ui.for_markdown(prior_words.where_they_part(measured))}".rstrip(), width="content")
        by_class.draw(measured)
