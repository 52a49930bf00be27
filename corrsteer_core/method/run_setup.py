"""A run with everything in memory that it takes to add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.method.repeats import repeated
from corrsteer_core.models.conditions import Conditions
from corrsteer_core.models.limits import held_to
from corrsteer_core.models.loading import EMBEDDED, Model, load_model
from corrsteer_core.models.prompts import resolve_style
from corrsteer_core.runs.poolings import DEFAULT_POOLING
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.stored_run import stored, task_of
from corrsteer_core.saes.named_saes import saes_of
from corrsteer_core.saes.sae import EMBEDDED_SOURCE, Sae, load_saes, ref_of
from corrsteer_core.storage.reading import query
from corrsteer_core.tasks import Item, Task, load_with_shots, with_judge


@dataclass(frozen=True)
class Setup:
    """A run with everything in memory that it takes to add to it."""

    run: str
    config: RunConfig
    model: Model
    saes: list[Sae]
    task: Task
    items: list[Item]


def set_up(
    task: Task,
    *,
    model: Model | None = None,
    sae: Sequence[str] = (EMBEDDED_SOURCE,),
    layers: Sequence[int] | None = None,
    data: Path | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    pooling: str = DEFAULT_POOLING,
    seed: int = 0,
    chat: bool | None = None,
    system: str = "",
    shots: int = 0,
    scorer: str = "",
    judge: str = "",
) -> Setup:
    """Load and check everything for a run, and name it; nothing is generated yet.

    `judge` names one of tasks.JUDGES to score in place of the task's rules; one that cannot be had is an error.
    `shots` items of the train split are shown with their answers before every prompt and used for nothing else.
    """
    examples, items = load_with_shots(task, shots, data=data, seed=seed, limit=limit)
    task = with_judge(task, judge) if judge else task
    model = model or load_model(EMBEDDED)
    saes = load_saes(sae, model, layers)
    config = RunConfig(
        task=task.name,
        model=model.name,
        model_fingerprint=model.fingerprint,
        dtype=model.arithmetic,
        saes=tuple(ref_of(one) for one in saes),
        style=resolve_style(model, chat=chat, task_chat=task.chat, system=system, shots=examples),
        max_new_tokens=max_new_tokens or task.max_new_tokens,
        pooling=pooling,
        seed=seed,
        limit=limit,
        data=str(data.resolve()) if data else "",
        columns=task.columns,
        scorer=scorer,
        judge=judge,
        **asdict(repeated(task, items, data)),
    )
    return Setup(config.run_id(items), config, model, saes, task, items)


def reopen(run: str, model: Model | None = None) -> Setup:
    """A cached run with its model, SAEs and items, checked to be the ones it was made with."""
    config, items = stored(run)
    model = model or load_model(config.model, like=config.dtype)
    if model.fingerprint != config.model_fingerprint:
        raise CorrSteerError(
            f"The run {run} was made with other weights (in {config.dtype}) than the model {model.name} has now (in "
            f"{model.arithmetic}); give the model that it was made with, or begin a run of its own."
        )
    model = held_to(model, kept_conditions(query(run, "SELECT conditions FROM runs")))
    saes = saes_of(config.saes, model)
    return Setup(run, config, model, saes, task_of(config), items)


def kept_conditions(rows: pd.DataFrame) -> Conditions | None:
    """What a run is held to, from its row of `runs`; None for a run of before they were kept."""
    kept = rows["conditions"][0] if len(rows) else None
    return Conditions.from_json(kept) if isinstance(kept, str) else None
