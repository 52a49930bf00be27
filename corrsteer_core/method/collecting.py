"""Collecting a run: every sample answered once, its features pooled; and fitting it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.generation import check_length
from corrsteer_core.engine.pooling import sparse_rows
from corrsteer_core.method.run_setup import Setup, kept_conditions
from corrsteer_core.models.limits import held_to, prompts_that_fit
from corrsteer_core.models.prompts import Prompts, answer_text, render
from corrsteer_core.runs.fit import FitSettings, fit
from corrsteer_core.storage.run_folder import run_path
from corrsteer_core.storage.writing import TOGETHER, Writer
from corrsteer_core.tasks import Item
from corrsteer_core.workers.pool import conditions_now


def collect(setup: Setup, *, batch_size: int | None = None, progress: Progress = silent) -> None:
    """Generate for every sample that is still missing and store outputs, outcomes and pooled activations."""
    prompts = Prompts(render(setup.model, item.prompt, setup.config.style) for item in setup.items)
    tokens = setup.config.max_new_tokens
    check_length(setup.model, prompts, tokens)  # before there is a run
    with Writer(setup.run) as store:
        fitting = batch_size or prompts_that_fit(setup.model, prompts, tokens)
        size = store.begin(setup.config, setup.items, fitting, conditions_now(setup.model).to_json())
        model = held_to(setup.model, kept_conditions(store.query("SELECT conditions FROM runs")))
        skip = answered(store, setup.items)
        done = len(skip)

        def on_progress(prompts_of_batch: float) -> None:
            progress("reading features while the model answers", int(done + prompts_of_batch), len(prompts))

        on_progress(0)
        since = time.monotonic()
        for batch in answers(
            model,
            prompts,
            max_new_tokens=tokens,
            saes=setup.saes,
            pooling=setup.config.pooling,
            batch_size=size,
            skip=skip,
            on_progress=on_progress,
        ):
            took, since = time.monotonic() - since, time.monotonic()
            _store_batch(store, setup, batch.prompts, [row[0] for row in batch.tokens], batch.pooled or [], took)
            done += len(batch.prompts)
            on_progress(0)


def answered(store: Writer, items: Sequence[Item]) -> set[int]:
    """Places of the items that need no answer any more."""
    found = store.connection.execute("SELECT sample FROM samples WHERE outcome IS NOT NULL")
    places: dict[str, int] = {}
    there: set[int] = set()
    while rows := found.fetchmany(TOGETHER):  # all ids at once would stay in memory
        places = places or {item.id: place for place, item in enumerate(items)}
        there.update(places[sample] for (sample,) in rows)
    return there


def _store_batch(
    store: Writer, setup: Setup, places: list[int], tokens: list[list[int]], pooled: list, seconds: float
) -> None:
    items = [setup.items[place] for place in places]
    outputs = [answer_text(setup.model, ids) for ids in tokens]
    store.add_batch(
        samples=[item.id for item in items],
        outputs=outputs,
        outcomes=[setup.task.scorer(output, item) for output, item in zip(outputs, items, strict=True)],
        tokens=[len(ids) for ids in tokens],
        active={sae.layer: sparse_rows(z) for sae, z in zip(setup.saes, pooled, strict=True)},
        seconds=seconds,
    )


def refit(run: str, settings: FitSettings = FitSettings(), progress: Progress = silent) -> None:
    """Fit a cached run again; needs no model."""
    run_path(run)
    with Writer(run) as store:
        fit(store, settings, progress)
