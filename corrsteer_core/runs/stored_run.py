"""A cached run's configuration, items, fit and sets, as the values that the rest of the tool works with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from corrsteer_core.base import presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.fit import not_fitted
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SaeRef, SteeringSet
from corrsteer_core.storage.reading import query
from corrsteer_core.storage.run_folder import run_path
from corrsteer_core.storage.writing import PATIENCE, Writer
from corrsteer_core.tasks import Item, Task, custom_task, get_task, with_judge


def task_of(config: RunConfig) -> Task:
    """The task of a run: a named one, or the user's own file with its scorer."""
    if config.scorer:
        tokens, chat = config.max_new_tokens, config.style.chat
        data = Path(config.data)
        task = custom_task(config.scorer, data, max_new_tokens=tokens, chat=chat, columns=config.columns)
    else:
        task = replace(get_task(config.task), columns=config.columns)
    return with_judge(task, config.judge) if config.judge else task


def empty_set_of(run: str, config: RunConfig, **named: Any) -> SteeringSet:
    """A set without rows for a run: its model, SAEs, task and way of asking; `named` are further fields of the set."""
    return SteeringSet(
        config.model, config.model_fingerprint, config.saes, run=run, task=config.task, style=config.style, **named
    )


def stored(run: str) -> tuple[RunConfig, list[Item]]:
    """Configuration and items of a cached run."""
    rows = query(run, "SELECT config FROM runs")
    if rows.empty:
        raise CorrSteerError(f"The run {run} in {run_path(run)} is empty; delete it and collect it again.")
    body = json.loads(rows["config"][0])
    body["saes"] = tuple(SaeRef(**sae) for sae in body["saes"])
    body["style"]["shots"] = tuple(map(tuple, body["style"]["shots"]))
    body["columns"] = tuple(map(tuple, body.get("columns", ())))
    body["style"] = PromptStyle(**body["style"])
    items = [json.loads(item) for item in query(run, "SELECT item FROM samples ORDER BY sample")["item"]]
    return RunConfig(**body), [Item(**{**item, "choices": tuple(item["choices"])}) for item in items]


def features_of(run: str, layer: int | None = None) -> pd.DataFrame:
    """The fitted features of a run, highest r first (undefined r last)."""
    where, parameters = ("WHERE layer = ?", [layer]) if layer is not None else ("", [])
    return query(run, f"SELECT * FROM features {where} ORDER BY r DESC NULLS LAST, layer, feature", parameters)


def fit_summary(run: str) -> pd.Series:
    """The row of `fits`. Raises CorrSteerError when the run has not been fitted."""
    rows = query(run, "SELECT * FROM fits")
    if rows.empty:
        raise not_fitted(run)
    return rows.iloc[0]


def keep_set(
    run: str,
    steering: SteeringSet,
    strategy: str = "hand",
    *,
    selection: Mapping[str, Any] | None = None,
    wait: float = PATIENCE,
) -> None:
    """Keep a set with its run, in place of one of the same name; `selection` says how it was chosen.

    Raises CorrSteerError when the run is still being written by another process after `wait` seconds.
    """
    presenting.refuse("The set is not saved")
    run_path(run)
    body = {"name": steering.name, "strategy": strategy, "created": pd.Timestamp.now("UTC").tz_localize(None)}
    with Writer(run, wait=wait) as store:
        row = {**body, "content": steering.content, "body": steering.to_json()}
        store.add("sets", pd.DataFrame([{**row, "selection": json.dumps(selection) if selection else None}]))


def kept_sets(run: str) -> dict[str, SteeringSet]:
    """The sets kept with a run, by name, oldest first."""
    rows = query(run, "SELECT name, body FROM sets ORDER BY created")
    return {row.name: SteeringSet.from_json(row.body, f"the set {row.name}") for row in rows.itertuples(index=False)}


def selection_of(run: str, content: str) -> dict[str, Any] | None:
    """How the set of this content was chosen, as it is kept with its run; None for one put together by hand."""
    rows = query(run, "SELECT selection FROM sets WHERE content = ? AND selection IS NOT NULL LIMIT 1", [content])
    return json.loads(rows["selection"][0]) if len(rows) else None
