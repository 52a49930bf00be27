"""All features of a run in a table, filtered, sorted and a page at a time."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app.features import description_panel, filters
from app.features.filters import SORTS, q_help
from app.shared import components as ui
from app.shared import state, tables
from app.shared.resources import ask, ask_fit
from corrsteer_core.runs import feature_lists, reliability, run_facts

ROWS = 10  # of the table on one page
FEATURE = ["layer", "feature"]
RESAMPLES = 400  # for the intervals in the table; a feature's own page takes more
WORDS = """
- **r**: how closely the feature's activation goes with success over the training samples, from −1 to 1. Undefined
  (–) where it or the outcome never changes.
- **95% of r**: where r would mostly lie with other training samples of this number (bootstrap).
- **q**: of the features with a q as small as this, about this share are there by chance (Benjamini-Hochberg).
- **Effect**: success rate with the feature steered alone, minus the rate without, in percentage points, on validation
  samples, at the scale where it did best. Only the features of highest r in each layer are tried.
- **Predicted**: the same, predicted to first order from gradients at scale 1, on training samples, without steering.
- **Coeff.**: its mean activation over the successful samples; steering adds this much of it, times a scale.
- **Support**: training samples in which it fired at all. Below the floor a feature is not ranked: few samples
  prove little.
- **Correct, incorrect**: share of the correct and of the incorrect answers in which it fired.
"""


def draw(run: str, facts: run_facts.RunFacts) -> None:
    description_panel.offer(run, facts)
    wanted = filters.draw(facts)
    found = ask(feature_lists.count_features, run, wanted)
    if not found:
        st.info("No feature passes these filters; widen them.", icon=":material/filter_alt_off:")
        return
    pages = -(-found // ROWS)
    place = st.container()
    left, right = st.columns([3, 2], vertical_alignment="center")
    with right:
        number = (
            st.pagination(pages, key=f"page-{run}-{hash(wanted)}", width="content", persist_state="session")
            if pages > 1
            else 1
        )
    left.caption(f"{ui.counted(found, 'feature')}, sorted by {SORTS[wanted.sort]}. Select a row to look at it.")
    rows = ask(feature_lists.features, run, wanted, limit=ROWS, offset=(number - 1) * ROWS)
    with st.spinner("Drawing samples again …"):
        bounds = ask_fit(reliability.intervals, run, rows[FEATURE], resamples=RESAMPLES)
    predicted = bool(ask(feature_lists.predicted_features, run))
    rows = rows.join(bounds.drop(columns=FEATURE))
    key = f"features-{run}-{hash(wanted)}-{number}"
    place.dataframe(
        tables.harmless(_for_show(rows, predicted=predicted)),
        alt="Features. Arrow keys move, Shift and Space open a row.",
        key=key,
        hide_index=True,
        width="stretch",
        height="content",
        placeholder="–",
        on_select=lambda: _open_row(key, rows),
        selection_mode="single-row",
        column_config=_columns(),
    )
    with st.expander("What the columns mean"):
        st.markdown(WORDS)
    description_panel.uploads_from_neuronpedia(run)


def _for_show(rows: pd.DataFrame, *, predicted: bool) -> pd.DataFrame:
    """The columns in the units they are shown in; that of predictions where there are any."""
    shares = ["frequency_correct", "frequency_incorrect"]
    foretold = ["predicted_effect"] if predicted else []
    shown = ["layer", "feature", "described", "r", "between", "q", "effect", *foretold, "coefficient", "support"]
    words = {
        "r": [ui.signed(value, 3) for value in rows["r"]],
        **{name: [_points(value) for value in rows[name]] for name in ("effect", *foretold)},
        "q": [_probability(value) for value in rows["q"]],
        "between": [_between(row.r_low, row.r_high) for row in rows.itertuples()],
        "described": [_description(row.description, row.description_source) for row in rows.itertuples()],
    }
    return rows.assign(**{name: 100 * rows[name] for name in shares}, **words)[[*shown, *shares]]


def _points(value: float) -> str | None:
    return None if ui.missing(value) else ui.points(value).removesuffix(" points")


def _between(low: float, high: float) -> str | None:
    return None if ui.missing(low) else f"{ui.signed(low)} to {ui.signed(high)}"


def _description(text: object, source: object) -> str | None:
    """A description, our own guess marked by a question mark."""
    if ui.missing(text):
        return None
    return ui.shortened(text, 120) + (" (?)" if source == "own" else "")


def _probability(value: float) -> str | None:
    return None if ui.missing(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _columns() -> dict[str, Any]:
    def number(label: str, width: int, format: str | None = None, help: str | None = None) -> Any:
        return st.column_config.NumberColumn(label, width=width, format=format, help=help)

    def words(label: str, help: str, width: int = 64, alignment: Any = "right") -> Any:
        return st.column_config.TextColumn(label, width=width, help=help, alignment=alignment)

    return {
        "layer": number("Layer", 50),
        "feature": number("Feature", 64),
        "described": words(
            "Description", "What it is said to mean; (?) marks a guess of our own.", width=132, alignment="left"
        ),
        "between": words("95% of r", "Where r would mostly lie with other samples (bootstrap).", width=104),
        "r": words("r", "How closely its activation goes with success, −1 to 1.", 62),
        "q": words("q", q_help()),
        "effect": words("Effect", "Points of success that steering with it alone adds, at its best scale.", 58),
        "predicted_effect": words(
            "Predicted",
            "Points of success that gradients say steering with it at scale 1 adds; nothing was steered.",
            72,
        ),
        "coefficient": number("Coeff.", 60, "%.2f", "Coefficient: mean activation over the successful samples."),
        "support": number("Support", 66, "localized", "Training samples in which it fired."),
        "frequency_correct": number("Correct", 64, "%.1f%%", "Share of the correct answers in which it fired."),
        "frequency_incorrect": number("Incorrect", 70, "%.1f%%", "Share of the incorrect answers in which it fired."),
    }


def _open_row(key: str, rows: pd.DataFrame) -> None:
    chosen = st.session_state[key]["selection"]["rows"]
    if chosen and chosen[0] < len(rows):
        row = rows.iloc[chosen[0]]
        state.open_feature(int(row["layer"]), int(row["feature"]))
