"""Evaluations beside one another: one set at many scales, many sets on many tasks. Loads no model.

Takes what `runs.measurements.evaluations` returns; every row of it was measured against the unsteered model on its own samples.
"""

from __future__ import annotations

import pandas as pd

from corrsteer_core.reporting.verdict import WORDS, fluency_loss, verdict

COLUMNS = [
    "name", "task", "scale", "n", "unsteered_rate", "steered_rate", "low", "high", "effect", "ser", "p",
    "fluency_loss", "verdict",
]  # fmt: skip


def table(evaluations: pd.DataFrame, split: str) -> pd.DataFrame:
    """One row per evaluation on a split: rates with Wilson's 95% interval, effect, SER, p, fluency lost, verdict."""
    rows = []
    for row in evaluations[evaluations["split"] == split].itertuples():
        summary = row.summary
        low, high = summary["steered_interval"]
        rows.append(
            {
                "name": row.label,
                "task": row.task,
                "scale": row.scale,
                **{key: summary[key] for key in ("n", "unsteered_rate", "steered_rate", "effect", "ser", "p")},
                "low": low,
                "high": high,
                "fluency_loss": fluency_loss(summary),
                "verdict": WORDS[verdict(summary).kind],
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def sweep(found: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of `table` of one set, by task and scale, with `pareto`; empty unless some task has two scales.

    Of each task, only the scales measured on as many samples as its largest measurement are comparable and stay.
    """
    mine = found[found["name"] == name].sort_values(["task", "scale"], ignore_index=True)
    mine = mine[mine["n"] == mine.groupby("task")["n"].transform("max")]
    several = mine.groupby("task")["scale"].transform("nunique") > 1
    mine = mine[several].reset_index(drop=True)
    return mine.assign(pareto=mine["scale"].isin(pareto(mine)))


def pareto(rows: pd.DataFrame) -> set[float]:
    """Scales that no other beats: none is at least as good on every task and better on one.

    `rows` needs scale, task and steered_rate. A scale that lacks a task is left out.
    """
    if rows.empty:
        return set()
    rates = rows.pivot_table(index="scale", columns="task", values="steered_rate").dropna()
    points = {scale: rates.loc[scale].to_numpy() for scale in rates.index}
    return {
        float(scale)
        for scale, mine in points.items()
        if not any((other >= mine).all() and (other > mine).any() for other in points.values())
    }


def matrix(found: pd.DataFrame) -> pd.DataFrame:
    """Effects, sets down and tasks across, each set at the scale nearest to 1 on the most samples; nan if not measured.

    `found` is a `table`. Empty unless there are two sets or two tasks.
    """
    nearest = found.assign(off=(found["scale"] - 1).abs()).sort_values(
        ["off", "n"], ascending=[True, False], kind="stable"
    )
    one = nearest.drop_duplicates(["name", "task"])
    if one["name"].nunique() < 2 and one["task"].nunique() < 2:
        return pd.DataFrame()
    return one.pivot_table(index="name", columns="task", values="effect", sort=True)
