"""The pictures of a run's ranking: r and effect, r by layer and rank, frequency, samples needed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app.shared import components as ui
from app.shared import state
from app.shared.resources import ask, ask_fit, picture
from corrsteer_core.reporting import figures
from corrsteer_core.runs import feature_lists, reliability, run_facts


def effects(run: str, facts: run_facts.RunFacts) -> None:
    best = ask(feature_lists.best_effects, run)
    if best.empty:
        ui.nothing_yet(
            "No feature has been tried yet.",
            "The best features can be steered with one by one, to see what they do: the Overview page starts that.",
        )
        state.link_to("overview", "Open Overview")
        return
    st.caption(
        "Each dot is a feature, steered alone at the scale where it did best. To the right: goes with success "
        "more. Up: brings success "
        "about. If r showed what works, the dots would lie on a rising line. A filled dot has p < 0.05 (two-sided), which "
        f"for some of {len(best)} dots is luck: each is the best of several scales."
    )
    figure = picture(figures.r_against_effect, best, state.current_feature())
    pickable(figure, f"chart-effect-{run}", "Best effect of each feature tried, by its r", best)


def layers(run: str, facts: run_facts.RunFacts) -> None:
    best = ask(feature_lists.best_by_layer, run)
    if best.empty:
        st.info("No layer has a feature that can be ranked.", icon=":material/info:")
        return
    permutations = int((facts.fit or {})["permutations"])
    st.caption(
        "A bar is the highest r in that layer; the orange mark is what the best feature there reaches when "
        "outcomes are shuffled "
        f"(95% of {permutations} shuffles stay below). A bar that does not pass its mark, drawn grey, is noise."
    )
    alt = "Highest r in each layer, and what chance reaches there"
    pickable(picture(figures.best_by_layer, best), f"chart-layers-{run}", alt, best)


def ranks(run: str, facts: run_facts.RunFacts) -> None:
    ranks = ask_fit(feature_lists.ranks, run)
    if ranks.empty:
        st.info("No feature can be ranked.", icon=":material/info:")
        return
    st.caption(
        f"Each row is a layer, each square one of its {feature_lists.RANKS} features of highest r, the highest on the left: "
        "yellow goes with success most. Only squares in an orange frame are beyond what chance reaches in their layer."
    )
    pickable(picture(figures.r_by_rank, ranks), f"chart-ranks-{run}", "r by layer and rank", ranks)


def convergence(run: str, facts: run_facts.RunFacts) -> None:
    with st.spinner("Ranking with fewer samples"):
        points = ask_fit(reliability.convergence, run)
    if points.empty or points["overlap"].isna().all():
        st.info("No feature can be ranked, so there is nothing to follow.", icon=":material/info:")
        return
    st.caption(
        f"How much of the ranking fewer samples would have found. Blue: the share of the top {reliability.TOP} features "
        "in common with those of all samples (as overlap of the two sets); where it flattens near 1, more samples "
        "would change little. Orange: what r of the feature that ends up best would have been with fewer samples; its "
        "ups and downs show how far few samples can be trusted."
    )
    alt = "Share of the ranking that fewer samples find, and r of the best feature"
    ui.chart(picture(figures.convergence, points), f"chart-convergence-{run}", alt, points)


def cloud(run: str, facts: run_facts.RunFacts) -> None:
    points = ask_fit(feature_lists.cloud, run)
    if points.empty:
        st.info("No feature can be ranked.", icon=":material/info:")
        return
    chance = ask(run_facts.chance, run)
    ranked = int(points["ranked"].iloc[0])
    some = (
        f" Of {ranked:,} features {len(points):,} are shown: those of the largest r, and a sample of the rest."
        if len(points) < ranked
        else ""
    )
    st.caption(
        "Each bubble is a feature: to the right, it fires in more samples; up, it goes with success; down, with "
        "failure; larger, it is more "
        f"active when the model succeeds. Only what lies above the upper dashed line is beyond chance; "
        "the lower one is its mirror image, for features "
        f"that go with failure.{some}"
    )
    level = chance and chance["level"]
    figure = picture(figures.frequency_against_r, points, level, state.current_feature())
    pickable(figure, f"chart-cloud-{run}", "How often each feature fires, by its r", points)


def pickable(figure: Any, key: str, alt: str, behind: pd.DataFrame) -> None:
    """A chart in which a click on a feature opens it."""
    ui.chart(figure, key, alt, behind, on_select=lambda: _open_point(key), selection_mode="points")


def _open_point(key: str) -> None:
    for point in st.session_state[key]["selection"]["points"]:
        data = point.get("customdata")
        if data:
            values = list(data.values()) if isinstance(data, dict) else list(data)
            state.open_feature(int(values[0]), int(values[1]))
            return
