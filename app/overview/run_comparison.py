"""Runs beside one another: what each asked of which model, what its ranking amounts to, and its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.overview import feature_pairs
from app.shared import components as ui
from app.shared import tables
from app.shared.resources import ask
from corrsteer_core.base import presenting
from corrsteer_core.reporting.verdict import WORDS, verdict
from corrsteer_core.runs import feature_lists, run_facts

NOTHING = "–"
MEASURED = "Measured set on unseen samples"
DIFFERS = ("task", "model", "max_new_tokens", "pooling", "seed", "limit", "system", "chat", "shots", "layers")


def draw(runs: Sequence[str]) -> None:
    """One column for each run, one line for each thing to compare."""
    table = compared(runs)
    st.markdown("**Side by side**")
    st.dataframe(
        tables.harmless(table.reset_index(names="")),
        alt="The result of each run",
        hide_index=True,
        width="stretch",
        height="content",
    )
    settings = settings_apart(runs)
    same = "The runs were made with the same settings." if settings.empty else "Settings in which they differ:"
    st.caption(same)
    if not settings.empty:
        st.dataframe(
            tables.harmless(settings.reset_index(names="")),
            alt="Settings in which they differ",
            hide_index=True,
            width="stretch",
            height="content",
        )
    feature_pairs.draw(runs)


def compared(runs: Sequence[str]) -> pd.DataFrame:
    """The result of each run, in words and rounded numbers: things down, runs across."""
    return pd.DataFrame({ui.plain(run): _of(run) for run in runs})


def _of(run: str) -> dict[str, str]:
    facts: run_facts.RunFacts = ask(run_facts.facts, run)
    best = ask(feature_lists.best_by_layer, run) if facts.fit else pd.DataFrame()
    chance = ask(run_facts.chance, run)
    effects = ask(feature_lists.best_effects, run)
    measured = ask(run_facts.headline, run)
    found = dict.fromkeys(("Success rate", "Highest r", "Chance stays below (95%)", "Best effect alone"), NOTHING)
    if facts.success_rate is not None:
        found["Success rate"] = ui.percent(facts.success_rate)
    if len(best):
        found["Highest r"] = _named(best.loc[best["r"].idxmax()], ui.signed, "r")
    if chance:
        found["Chance stays below (95%)"] = ui.signed(chance["level"])
    if len(effects):
        found["Best effect alone"] = _named(effects.iloc[0], ui.points, "effect")
    return {"Samples answered": f"{facts.collected:,} of {facts.samples:,}", **found, **_measured(measured)}


def _named(row: pd.Series, said: Callable[[Any], str], number: str) -> str:
    return f"{said(row[number])} ({ui.feature_name(int(row['layer']), int(row['feature']))})"


def _measured(summary: Any) -> dict[str, str]:
    """What the set that stands for the run did on unseen samples."""
    if summary is None:
        return {MEASURED: "not measured", "p": NOTHING, "Verdict": NOTHING}
    rates = f"{ui.percent(summary['unsteered_rate'])} to {ui.percent(summary['steered_rate'])}"
    return {
        MEASURED: f"{ui.plain(summary['set'])}: {rates}",
        "p": ui.p_value(summary["p"]),
        "Verdict": WORDS[verdict(summary).kind],
    }


def settings_apart(runs: Sequence[str]) -> pd.DataFrame:
    """The settings in which the runs differ: settings down, runs across."""
    table = pd.DataFrame({ui.plain(run): _settings(run) for run in runs}, index=list(DIFFERS))
    return table[table.nunique(axis=1) > 1].rename(index=lambda name: name.replace("_", " "))


def _settings(run: str) -> dict[str, str]:
    facts: run_facts.RunFacts = ask(run_facts.facts, run)
    config = {**facts.config, **facts.config["style"], "layers": ", ".join(map(str, facts.layers))}
    config["model"] = presenting.named(facts.config["model"])
    config["shots"] = len(facts.config["style"].get("shots", ()))
    return {name: ui.shortened(_said(config.get(name)), 60) for name in DIFFERS}


def _said(value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
