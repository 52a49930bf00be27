"""One evaluation: its verdict, its numbers, and the set against its controls."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app.evaluate import prior_panel, rate_chart, sample_table
from app.shared import components as ui
from app.shared import resources, verdict_box
from corrsteer_core.proof import evidence
from corrsteer_core.reporting import prior_words, rate_rows, rival_groups, tournament_words, verdict
from corrsteer_core.runs import measurements, stored_run

EVIDENCE = (
    "The set's file carries this measurement as evidence: download it on the Steer page, and `corrsteer verify FILE` "
    "measures it again, sample by sample."
)


def draw(run: str, row: pd.Series) -> None:
    """One evaluation: verdict, numbers, comparison, samples."""
    summary, name = row["summary"], ui.shortened(row["label"], 60)
    st.subheader(
        f"{ui.for_markdown(name)} on {ui.for_markdown(row['task'])}, {row['split']} samples, scale {row['scale']:g}",
        anchor=False,
    )
    verdict_box.draw(verdict.verdict(summary))
    prior_panel.draw(summary)
    _numbers(summary)
    words = (verdict.gain_words(summary), verdict.side_effects(summary), verdict.fluency_words(summary))
    st.markdown(ui.for_markdown(" ".join(filter(None, words))))
    if said := rival_groups.caveats(summary):
        st.caption(ui.for_markdown(said))
    if _is_evidence(run, row):
        st.caption(EVIDENCE)
    _comparison(summary, name)
    _tournament(summary, name)
    sample_table.draw(run, row)


def _is_evidence(run: str, row: pd.Series) -> bool:
    """Whether the set's file, as the Steer page gives it, carries this measurement."""
    kept = resources.ask(stored_run.kept_sets, run).get(row["name"])
    which = list(sample_table.WHICH)
    best = None if kept is None else evidence.best_row(resources.ask(measurements.evaluations, run), kept)
    return best is not None and bool((best[which] == row[which]).all())


def _numbers(summary: dict[str, Any]) -> None:
    row = ui.numbers_row()
    low, high = summary["unsteered_interval"]
    row.metric(
        "Unsteered", ui.percent(summary["unsteered_rate"]), help=f"95% interval {ui.percent(low)} to {ui.percent(high)}"
    )
    low, high = summary["steered_interval"]
    row.metric(
        "Steered",
        ui.percent(summary["steered_rate"]),
        ui.points(summary["effect"]),
        delta_color="off",
        delta_arrow="off",
        help=f"95% interval {ui.percent(low)} to {ui.percent(high)}",
    )
    flips = f"+{summary['positive_flips']} / {ui.MINUS}{summary['negative_flips']}"
    row.metric("Won / lost", flips, help="Samples that steering put right, and samples that it put wrong")
    row.metric(
        "Could it be luck?",
        ui.p_value(summary["p"]),
        help=_of_p(summary),
    )
    ser = "–" if ui.missing(summary["ser"]) else f"{summary['ser']:.2f}"
    row.metric(
        "Side effects",
        ser,
        help="Side effect ratio (SER): lost / (won + lost). At 0.5 it breaks as much as it fixes.",
    )


def _of_p(summary: dict[str, Any]) -> str:
    """What p is, by the test it comes from."""
    counted = {
        "clusters": "clusters of samples rise and fall this unevenly",
        "sign flip": "outcomes rise and fall this unevenly",
    }.get(summary.get("test", ""), "flips this uneven come about")
    return f"How often {counted} if steering does nothing ({rival_groups.test_name(summary)})"


def _comparison(summary: dict[str, Any], name: str) -> None:
    st.subheader("Against its controls", anchor=False)
    rows = rate_rows.rates(summary, name)
    st.caption(
        "How to read it: each point is a success rate on the same samples, the bar its 95% interval, the dashed line "
        "the unsteered rate. A set that works stands to the right of the line, random features of like size on it."
    )
    if (rows["kind"] == "offset").any():
        st.caption(prior_words.DIAMONDS)
    if not (rows["kind"] == "control").any():
        st.caption("No controls were measured with it; measure again with random sets to compare with.")
    if missing := rival_groups.missing_controls(summary):
        st.caption(ui.for_markdown(missing))
    alt = "Success rates with their intervals: unsteered, steered, both with constants per class, and controls"
    ui.chart(resources.picture(rate_chart.rates, rows), "rates", alt, rows.drop(columns="kind"))


def _tournament(summary: dict[str, Any], name: str) -> None:
    """The set among better prompts and other rivals; nothing where none was asked for."""
    rows, missing = tournament_words.rates(summary, name), rival_groups.missing_rivals(summary)
    if rows.empty and not missing:
        return
    st.subheader(tournament_words.TITLE, anchor=False)
    if not rows.empty:
        st.caption(tournament_words.EXPLAINED)
        numbers = [[ui.plain(cell) for cell in row] for row in tournament_words.table(summary)]
        behind = pd.DataFrame(numbers, columns=list(tournament_words.HEADS))
        figure = resources.picture(rate_chart.rates, rows)
        ui.chart(figure, "tournament", "Success rates of the set and its rivals", behind)
    if missing:
        st.caption(ui.for_markdown(missing))
