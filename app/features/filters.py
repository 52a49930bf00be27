"""The filters above the table of features."""

from __future__ import annotations

from typing import Any

import streamlit as st

from corrsteer_core.correlation.feature_columns import shown_columns
from corrsteer_core.runs import feature_lists, run_facts

ANY = "any"
DOWN, UP = "highest first", "lowest first"
KEPT: dict[str, Any] = {"persist_state": "session"}
"""Of every filter: it stays as it is while other pages are looked at."""


def sorts() -> dict[str, str]:
    """What the features can be sorted by, in words; r first."""
    kept = {column.name: column.sorted_by or column.title for column in shown_columns()}
    effects = {"effect": "measured effect", "predicted_effect": "predicted effect"}
    return {"r": kept["r"], **effects, **kept, "layer": "layer", "feature": "feature number"}


def draw(facts: run_facts.RunFacts) -> feature_lists.FeatureFilter:
    """The filters' controls, and what they are set to."""
    with st.container(border=True):
        wanted = _words_and_order(facts)
        with st.expander("More filters"):  # folded, they are not drawn: most of what the page would take
            wanted |= {**_strength(facts), **_more_filters()}
    return feature_lists.FeatureFilter(**wanted)


def folded_away(facts: run_facts.RunFacts, wanted: feature_lists.FeatureFilter) -> bool:
    """Whether a filter is set that only the opened "More filters" shows."""
    seen = {name: getattr(wanted, name) for name in ("text", "layers", "sort", "descending")}
    return wanted != feature_lists.FeatureFilter(support=int((facts.fit or {})["floor"]), **seen)


def _words_and_order(facts: run_facts.RunFacts) -> dict[str, Any]:
    """Words, layers and order, as named arguments of `FeatureFilter`."""
    known = sorts()
    with st.container(horizontal=True):
        text = st.text_input(
            "Words or number", key="filter_text", max_chars=200, placeholder="in descriptions, tokens, texts", width=250,
            help=(
                "Features with these words in their description or promoted tokens, or that are most active on a text "
                f"with them (the top {feature_lists.TOP_TEXTS} of each); or the feature of this number."
            ),
            **KEPT,
        )  # fmt: skip
        layers = st.multiselect("Layers", facts.layers, key="filter_layers", placeholder="all", width=200, **KEPT)
        sort = st.selectbox("Sort by", list(known), format_func=known.__getitem__, key="filter_sort", width=250, **KEPT)
        order = st.selectbox("Order", [DOWN, UP], key="filter_order", width=170, **KEPT)
    return {"text": text, "layers": tuple(layers), "sort": sort, "descending": order == DOWN}


def _strength(facts: run_facts.RunFacts) -> dict[str, Any]:
    """How much is known of a feature, as named arguments of `FeatureFilter`."""
    floor = int((facts.fit or {})["floor"])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        low, high = st.slider("r between", -1.0, 1.0, (-1.0, 1.0), 0.05, key="filter_r", width=250, **KEPT)
        support = st.number_input(
            "Least support (samples)", 0, None, floor, key=f"filter_support-{facts.run}", width=200,
            help=f"Training samples in which it fired. The floor of this run is {floor}.", **KEPT,
        )  # fmt: skip
        q = st.selectbox("q at most", [ANY, 0.01, 0.05, 0.1, 0.2], key="filter_q", help=q_help(), width=130, **KEPT)
        tried = st.toggle(
            "Only those tried", key="filter_tried", width="content",
            help="Only features whose effect has been measured.", **KEPT,
        )  # fmt: skip
    high_q = q if isinstance(q, float) else None
    return {"r_low": low, "r_high": high, "support": int(support), "q_high": high_q, "tried": tried}


def _more_filters() -> dict[str, Any]:
    """The filters that are wanted less often, as named arguments of `FeatureFilter`."""
    one, two, three = st.columns(3)
    shares = [
        place.slider(label, 0, 100, (0, 100), key=f"filter_{key}", format="%d%%", **KEPT)
        for place, label, key in (
            (one, "Fires in", "frequency"),
            (two, "Fires in correct answers", "correct"),
            (three, "Fires in incorrect answers", "incorrect"),
        )
    ]
    one, two, three, four = st.columns([1, 1, 1, 1], vertical_alignment="bottom")
    low = one.number_input("Coefficient from", value=None, key="filter_c_low", placeholder="any", **KEPT)
    high = two.number_input("Coefficient to", value=None, key="filter_c_high", placeholder="any", **KEPT)
    effect = three.number_input(
        "Effect of at least (points)", value=None, key="filter_effect", placeholder="any", **KEPT
    )
    described = four.toggle("Only those described", key="filter_described", **KEPT)
    (all_low, all_high), (right_low, right_high), (wrong_low, wrong_high) = shares
    return {
        "frequency_low": all_low / 100,
        "frequency_high": all_high / 100,
        "correct_low": right_low / 100,
        "correct_high": right_high / 100,
        "incorrect_low": wrong_low / 100,
        "incorrect_high": wrong_high / 100,
        "coefficient_low": low,
        "coefficient_high": high,
        "effect_low": None if effect is None else effect / 100,
        "described": described,
    }


def q_help() -> str:
    """What a limit on q means, in words."""
    return "Of the features that pass, about this share passes by chance."
