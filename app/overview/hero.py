"""The first thing a visitor sees of a run: before, after, against what, and what the features mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import by_class, resources, state, verdict_box
from app.shared import components as ui
from corrsteer_core.reporting import figures, rival_groups
from corrsteer_core.reporting.palette import STEERED, UNSTEERED
from corrsteer_core.reporting.verdict import WORDS, verdict
from corrsteer_core.runs import feature_facts, measurements
from corrsteer_core.runs.steering_set import SteeringSet

MOST_NAMED = 3


def draw(run: str, measured: Mapping[str, Any]) -> None:
    """One measurement as a sentence, two numbers, a picture, and its features in words."""
    name = str(measured["set"])
    with st.container(border=True):
        left, right = st.columns([5, 6], gap="medium", vertical_alignment="center")
        with left:
            st.caption(f"Set {ui.for_markdown(name)} on {measured['n']:,} unseen samples")
            st.html(_before_and_after(measured))
            by_class.draw(measured)
            _features(run, name)
        with right:
            rows = rival_groups.grouped(measured, f"set {name}")
            alt = f"Success rate of set {name} beside what it is compared with."
            st.plotly_chart(
                resources.picture(figures.against_rivals, rows),
                key="hero-chart",
                alt=alt,
                width="stretch",
                config={"displayModeBar": False},
            )
        verdict_box.draw(verdict(measured))
        if said := _elsewhere(resources.ask(measurements.evaluations, run), name):
            st.markdown(ui.for_markdown(said))
        ui.table_behind(rows)


def _elsewhere(evaluations: pd.DataFrame, name: str) -> str:
    """What the set did on shifted samples; "" where that was not measured."""
    now = evaluations["label"] == name  # what was measured of the set before it was changed is marked in its label
    found = evaluations[now & (evaluations["split"] == "shifted") & evaluations["own_scale"]]
    if found.empty:
        return ""
    summary = found.iloc[0]["summary"]
    rates = f"{ui.percent(summary['unsteered_rate'])} to {ui.percent(summary['steered_rate'])}"
    return f"On {summary['n']:,} samples made otherwise than these: {rates} ({WORDS[verdict(summary).kind]})."


def _before_and_after(measured: Mapping[str, Any]) -> str:
    """Two rates in the colours they have on every page; all of it is numbers of ours."""
    before, after = ui.percent(measured["unsteered_rate"]), ui.percent(measured["steered_rate"])
    won, lost = measured["positive_flips"], measured["negative_flips"]
    return (
        '<div style="font-size:2.1rem;font-weight:600;line-height:1.2">'
        f'<span style="color:{UNSTEERED}">{before}</span> \u2192 <span style="color:{STEERED}">{after}</span></div>'
        f"<div>success before and after steering \u00b7 {won} answers won, {lost} lost</div>"
    )


def _features(run: str, name: str) -> None:
    """Each feature of the set with what it means, and the way to its page."""
    kept = resources.ask(measurements.sets, run)
    body = kept.loc[kept["name"] == name, "body"]
    if body.empty:
        return
    rows = resources.ask(_meanings, run, str(body.iloc[0]))
    for row in rows.head(MOST_NAMED).itertuples():
        _feature(row)
    if len(rows) > MOST_NAMED:
        st.caption(f"and {ui.counted(len(rows) - MOST_NAMED, 'more feature')}")


def _feature(row: Any) -> None:
    with st.container(gap=None):
        pressed = st.button(
            ui.feature_name(row.layer, row.feature).capitalize(),
            key=f"hero-{row.layer}-{row.feature}",
            type="tertiary",
            icon=":material/arrow_outward:",
            help="Open the feature's page",
        )
        if row.does:
            st.caption(ui.for_markdown(row.does.capitalize()))
        if row.meaning:
            st.markdown(ui.for_markdown(ui.shortened(row.meaning, 90)))
    if pressed:
        state.go_to("features", layer=int(row.layer), feature=int(row.feature))


def _meanings(run: str, body: str) -> pd.DataFrame:
    return feature_facts.meanings(run, SteeringSet.from_json(body))
