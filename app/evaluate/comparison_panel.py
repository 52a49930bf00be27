"""Several evaluations beside one another: the scales of a set, and sets on tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from app.evaluate import rate_chart
from app.shared import components as ui
from app.shared import resources
from app.shared.names import SPLITS, task_title
from corrsteer_core.reporting import comparisons
from corrsteer_core.runs import measurements


def drawings(run: str) -> list[tuple[Callable[..., None], tuple[Any, ...]]]:
    """What can be drawn of several evaluations: the scales of a set, and sets on tasks, where there are two of either."""
    tables = resources.ask(tables_of, run)
    drawn: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
    for split, rows in tables.items():
        for name in rows["name"].unique():
            drawn += [(_scales, (swept, name, split)) for swept in sweeps(rows[rows["name"] == name], name)]
    for split, rows in tables.items():
        matrix = comparisons.matrix(rows)
        if not matrix.empty:
            drawn.append((_matrix, (matrix, split)))
    return drawn


def tables_of(run: str) -> dict[str, pd.DataFrame]:
    """`comparisons.table` of a run's evaluations, by split."""
    found = measurements.evaluations(run)
    return {split: comparisons.table(found, split) for split in SPLITS}


def sweeps(rows: pd.DataFrame, name: str) -> list[pd.DataFrame]:
    """Every curve over scales of a set: one of its largest measurements, one of those on fewer samples, and so on.

    Scales measured on different numbers of samples are not comparable, but none of them may vanish without a word.
    """
    found = []
    while not rows.empty:
        swept = comparisons.sweep(rows, name)
        if not swept.empty:
            found.append(swept)
        rows = rows[rows["n"] < rows.groupby("task")["n"].transform("max")]
    return found


def _scales(swept: pd.DataFrame, name: str, split: str) -> None:
    title = ui.for_markdown(ui.shortened(name, 40))
    sizes = " and ".join(f"{size:,}" for size in sorted(swept["n"].unique()))
    st.subheader(f"{title} at several scales, {sizes} {split} samples", anchor=False)
    tasks = list(swept["task"].unique())
    if len(tasks) == 1:
        st.caption(
            "How to read it: the success rate at each scale with its 95% interval; the dashed line is the unsteered "
            "rate. Where the intervals overlap, scales cannot be distinguished."
        )
        figure = resources.picture(rate_chart.by_scale, swept)
    else:
        first, second = tasks[0], tasks[1]
        if len(tasks) > 2:
            key = f"pareto-{name}-{split}-{sizes}"
            one, two = st.columns(2)
            first = one.selectbox("Across", tasks, index=0, format_func=task_title, key=f"{key}-x")
            others = [task for task in tasks if task != first]
            second = two.selectbox("Up", others, format_func=task_title, key=f"{key}-y")
        st.caption(
            "How to read it: each point is one scale, further right is better on the one task, higher is better on the "
            "other; the square is the unsteered model. Filled points are the ones that no other scale beats on every task."
        )
        figure = resources.picture(rate_chart.trade_off, swept, first, second, task_title(first), task_title(second))
    ui.chart(figure, f"scales-{name}-{split}-{sizes}", "Success rates at each scale", swept.drop(columns="name"))


def _matrix(matrix: pd.DataFrame, split: str) -> None:
    st.subheader(f"Sets on tasks, {split} samples", anchor=False)
    st.caption(
        "How to read it: what each set, at the scale nearest to 1, adds to the success rate of each task, in points. "
        "Orange gains, blue loses, empty was not measured. Small numbers may be luck: see the table of measurements."
    )
    figure = resources.picture(rate_chart.matrix, matrix.rename(columns=task_title))
    ui.chart(figure, f"matrix-{split}", "What each set adds to each task, in points", matrix.reset_index())
