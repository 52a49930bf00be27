"""What options name, made: the task, the model and its SAEs, a run with everything in memory."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.base.progress import Reporter
from corrsteer_core.saes.presets import get_preset
from corrsteer_core.tasks import TASKS, Task, custom_task, get_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corrsteer_core.method.run_setup import Setup
    from corrsteer_core.runs.steering_set import SteeringSet


def set_up(options: argparse.Namespace, report: Reporter) -> Setup:
    """The run that the options of `arguments.run_settings` ask for, loaded and checked."""
    from corrsteer_core.method import run_setup
    from corrsteer_core.models.loading import load_model

    task = task_of(options)
    model, saes = model_and_saes(options)
    return run_setup.set_up(
        task,
        model=load_model(model, report=report.note),
        sae=saes,
        layers=options.layers,
        data=options.data,
        limit=options.limit,
        max_new_tokens=options.max_new_tokens,
        pooling=options.pooling,
        seed=options.seed,
        chat=options.chat,
        system=options.system,
        shots=options.shots,
        scorer=options.scorer,
        judge=options.judge,
    )


def task_of(options: argparse.Namespace) -> Task:
    """The task that --task names, or the one that --data and --scorer make. Raises CorrSteerError for anything else."""
    if options.scorer and options.task is not None:
        raise CorrSteerError(
            f"--scorer makes the file of --data a task of its own, which is not {options.task}; leave out --scorer or --task."
        )
    if not options.scorer:
        if options.task is None:
            raise CorrSteerError("Name a task with --task, or give your own with --data FILE --scorer NAME.")
        return with_columns(get_task(options.task), options)
    if options.data is None:
        raise CorrSteerError("A task of your own needs its file; add --data FILE.")
    tokens = {"max_new_tokens": options.max_new_tokens} if options.max_new_tokens else {}
    return custom_task(options.scorer, options.data, columns=options.columns, **tokens)


def with_columns(task: Task, options: argparse.Namespace) -> Task:
    """The task, with its fields in the columns that --columns names. Raises CorrSteerError where there is no file to have them."""
    if options.columns and options.data is None:
        raise CorrSteerError("--columns says what a file calls its columns; name the file with --data.")
    return replace(task, columns=options.columns) if options.columns else task


def model_and_saes(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Model and SAE sources as asked: a preset's (whose model may be given as another copy of it), or by name."""
    if not options.preset:
        return options.model or EMBEDDED, options.sae or ["embedded"]
    if options.sae:
        raise CorrSteerError("A preset brings its own SAEs; give --preset or --sae, not both.")
    preset = get_preset(options.preset)
    return options.model or preset.model, preset.sources(options.layers)


@contextmanager
def workers(options: argparse.Namespace) -> Iterator[None]:
    """The workers that --workers and --ray ask for, which share what is computed while the context is open."""
    if not options.workers and not options.ray:
        yield
        return
    quiet_libraries()
    from corrsteer_core.workers.pool import spread_over
    from corrsteer_core.workers.ray_pool import RayPool

    with RayPool(options.workers, options.ray) as pool, spread_over(pool):
        yield


def task_named(name: str, sets: Sequence[SteeringSet]) -> Task:
    """A named task, or the file of the user's own that one of the sets was fitted on. Raises CorrSteerError."""
    from corrsteer_core.runs import stored_run
    from corrsteer_core.storage.run_folder import is_cached

    owner = next((one for one in sets if one.task == name and one.run), None)
    if name in TASKS or owner is None:
        return get_task(name)
    if not is_cached(owner.run):
        raise CorrSteerError(
            f"The set {owner.name!r} was fitted on a file of your own ({name}) in the run {owner.run}, which is not "
            f"cached; make the run again, or name another task."
        )
    return stored_run.task_of(stored_run.stored(owner.run)[0])


def quiet_libraries() -> None:
    """Turn off the progress bars and notices of libraries, which would break up our own progress line."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # loaded with transformers where it is installed
