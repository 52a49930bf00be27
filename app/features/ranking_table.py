"""All features of a run in a table, filtered, sorted and a page at a time."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app.features import description_panel, filters
from app.features.filters import sorts
from app.shared import components as ui
from app.shared import state, tables
from app.shared.resources import ask, ask_fit
from corrsteer_core.correlation.feature_columns import Column, Show, shown_columns
from corrsteer_core.runs import feature_lists, reliability, run_facts

ROWS = 10  # of the table on one page
FEATURE = ["layer", "feature"]
RESAMPLES = 400  # for the intervals in the table; a feature's own page takes more
AFTER_R = {
    "between": ("95% of r", "Where r would mostly lie with other training samples of this number (bootstrap)."),
}
STEERED = {
    "effect": (
        "Effect",
        "Success rate with it steered alone minus the rate without, in points, on validation samples, at the scale where "
        "it did best. Only the features of highest r in each layer are tried and, where effects have been predicted, those "
        "of best prediction.",
    ),
    "predicted_effect": (
        "Predicted",
        "The same, predicted to first order from gradients at scale 1, on training samples; nothing was steered.",
    ),
}
"""Title and help of what is not kept with each feature."""
GRID: dict[Show, tuple[str, int]] = {"number": ("%.2f", 1), "count": ("localized", 1), "share": ("%.1f%%", 100)}
"""How the browser shows a kind of number, and what it is multiplied by before; the others come as text."""


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
    narrowed = ", narrowed by “More filters”" if filters.folded_away(facts, wanted) else ""
    left.caption(
        f"{ui.counted(found, 'feature')}{narrowed}, sorted by {sorts()[wanted.sort]}. Select a row to look at it."
    )
    rows = ask(feature_lists.features, run, wanted, limit=ROWS, offset=(number - 1) * ROWS)
    with st.spinner("Drawing samples again …"):
        bounds = ask_fit(reliability.intervals, run, rows[FEATURE], resamples=RESAMPLES)
    predicted = bool(ask(feature_lists.predicted_features, run))
    known = ask(feature_lists.known_columns, run)
    columns = [column for column in shown_columns() if column.name in known]
    rows = rows.join(bounds.drop(columns=FEATURE))
    key = f"features-{run}-{hash(wanted)}-{number}"
    place.dataframe(
        tables.harmless(_for_show(rows, columns, predicted=predicted)),
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
        st.markdown(_meanings())
    description_panel.uploads_from_neuronpedia(run)


def _for_show(rows: pd.DataFrame, columns: list[Column], *, predicted: bool) -> pd.DataFrame:
    """The columns in the units they are shown in; that of predictions where there are any."""
    predictions = ["predicted_effect"] if predicted else []
    kept = {column.name: column for column in columns}
    words = {
        **{name: [_points(value) for value in rows[name]] for name in ("effect", *predictions)},
        "between": [_between(row.r_low, row.r_high) for row in rows.itertuples()],
        "described": [
            ui.description(row.description, row.description_source, in_table=True) for row in rows.itertuples()
        ],
    }
    first = [name for name in ("r", "r_within", "between", "q", "effect", *predictions) if name in {**kept, **words}]
    shown = rows.assign(**{name: _values(column, rows[name]) for name, column in kept.items()}, **words)
    return shown[["layer", "feature", "described", *dict.fromkeys([*first, *kept])]]


def _values(column: Column, values: pd.Series) -> list[Any]:
    """Numbers where the browser writes them, else text; None for what is missing."""
    factor = GRID[column.show][1] if column.show in GRID else None
    return [None if ui.missing(value) else column.text(value) if factor is None else factor * value for value in values]


def _points(value: float) -> str | None:
    return None if ui.missing(value) else ui.points_alone(value)


def _between(low: float, high: float) -> str | None:
    return None if ui.missing(low) else f"{ui.signed(low)} to {ui.signed(high)}"


def _columns() -> dict[str, Any]:
    def words(label: str, help: str, width: int = 64, alignment: Any = "right") -> Any:
        return st.column_config.TextColumn(label, width=width, help=help, alignment=alignment)

    return {
        "layer": st.column_config.NumberColumn("Layer", width=50),
        "feature": st.column_config.NumberColumn("Feature", width=64),
        "described": words(
            "Description",
            "What it is said to mean; (?) marks a guess of our own: where it is most active, and what it makes likelier.",
            width=132,
            alignment="left",
        ),
        "between": words(*AFTER_R["between"], width=104),
        "effect": words(*STEERED["effect"], width=58),
        "predicted_effect": words(*STEERED["predicted_effect"], width=72),
        **{column.name: _config(column) for column in shown_columns()},
    }


def _config(column: Column) -> Any:
    width = max(62, 16 + 6 * len(column.title))
    if column.show in GRID:
        return st.column_config.NumberColumn(column.title, width=width, format=GRID[column.show][0], help=column.help)
    return st.column_config.TextColumn(column.title, width=width, help=column.help, alignment="right")


def _meanings() -> str:
    """What the columns mean, as a list."""
    kept = [(column.title, column.help) for column in shown_columns()]
    every = dict([*kept[:1], *AFTER_R.values(), *kept[1:], *STEERED.values()])
    return "\n".join(f"- **{title}**: {help}" for title, help in every.items())


def _open_row(key: str, rows: pd.DataFrame) -> None:
    chosen = st.session_state[key]["selection"]["rows"]
    if chosen and chosen[0] < len(rows):
        row = rows.iloc[chosen[0]]
        state.open_feature(int(row["layer"]), int(row["feature"]))
