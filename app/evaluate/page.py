"""Evaluate: measure a steering set on held-out samples, and read the result sample by sample."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.evaluate import comparison_panel, measure_form, measurement_jobs, result
from app.evaluate.sample_table import WHICH
from app.shared import components as ui
from app.shared import resources, state, tables
from corrsteer_core.base import presenting
from corrsteer_core.reporting import verdict
from corrsteer_core.runs import measurements

FORM = "measure_form_opened"
SHOWN = 6  # evaluations shown without scrolling


def page() -> None:
    """Draw the page."""
    st.title("Evaluate")
    st.markdown(
        "Answer held-back samples with and without a steering set, count what it puts right and wrong, and compare it "
        "with random features of the same size."
    )
    run = state.current_run()
    if run is None:
        ui.nothing_yet("There is nothing to measure yet.", "Start a run first, on the page of that name.")
        return
    found = resources.ask(measurements.evaluations, run)
    measurable = not presenting.on() and _measuring(run, expanded=found.empty)
    if found.empty:
        if measurable:
            ui.nothing_yet("No set of this run has been measured yet.", "Choose one above and press *Measure*.")
        elif presenting.on():
            ui.nothing_yet("No set of this run has been measured yet.", "Look at another run.")
        return
    chosen = _chosen(found)
    drawn = comparison_panel.drawings(run)
    if not drawn:
        result.draw(run, chosen)
        return
    one, several = st.tabs(["This measurement", "Side by side"])
    with one:
        result.draw(run, chosen)
    with several:
        for draw, arguments in drawn:
            draw(*arguments)


def _measuring(run: str, *, expanded: bool) -> bool:
    """The form, and what is being measured; whether there is a set to measure."""
    bodies = measure_form.sets(run)
    fold = st.expander(
        "Measure a set", icon=":material/science:", expanded=expanded, key=f"measure-{expanded}", on_change="rerun"
    )
    if fold.open or st.session_state.get(FORM):  # it takes long to draw; once it was opened, it keeps what it holds
        st.session_state[FORM] = True
        with fold:
            measure_form.draw(run, bodies)
    measurement_jobs.draw(run)
    return bool(bodies)


def _chosen(found: pd.DataFrame) -> pd.Series:
    """All evaluations in one table; the row that is selected, else the newest."""
    st.subheader("Measured so far", anchor=False)
    table = pd.DataFrame(
        {
            "Set": [ui.plain(name) for name in found["label"]],
            "Task": [ui.plain(task) for task in found["task"]],
            "Samples": [f"{row.summary['n']} {row.split}" for row in found.itertuples()],
            "Effect": [ui.points(summary["effect"]) for summary in found["summary"]],
            "Verdict": [verdict.WORDS[verdict.verdict(summary).kind] for summary in found["summary"]],
            "Unsteered": [100 * summary["unsteered_rate"] for summary in found["summary"]],
            "Steered": [100 * summary["steered_rate"] for summary in found["summary"]],
            "Scale": found["scale"],
            "Measured": found["created"],
        }
    )
    event = st.dataframe(
        tables.harmless(table),
        hide_index=True,
        width="stretch",
        height="auto" if len(table) <= SHOWN else 240,
        key=f"evaluation_table-{pd.util.hash_pandas_object(found[list(WHICH)]).sum()}",  # a selection is of a place
        alt="Measurements so far. Arrow keys move, Shift and Space select a row.",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "Scale": st.column_config.NumberColumn(format="plain", width="small"),
            "Unsteered": st.column_config.NumberColumn(format="%.1f%%", help="Success rate without steering"),
            "Steered": st.column_config.NumberColumn(
                format="%.1f%%", help="Success rate of the same samples with the set"
            ),
            "Effect": st.column_config.TextColumn(alignment="right", help="Steered minus unsteered"),
            "Measured": st.column_config.DatetimeColumn(format="distance", help="Time of the measurement (UTC)"),
        },
    )
    rows = [row for row in event.selection.rows if row < len(found)]
    return found.iloc[rows[0] if rows else 0]
