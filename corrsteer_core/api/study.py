"""What is done with a model: a run fitted, a set measured, a prompt answered unsteered and steered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrsteer_core.api.models import held, in_memory, load_model
from corrsteer_core.api.run import Run
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.runs.against import Against, kinds_named
from corrsteer_core.runs.fit import FitSettings
from corrsteer_core.runs.poolings import DEFAULT_POOLING
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.runs.stored_run import stored, task_of
from corrsteer_core.storage.run_folder import is_cached
from corrsteer_core.tasks import TASKS, Task, custom_task, get_task
from corrsteer_core.tasks.columns import as_columns

if TYPE_CHECKING:
    from corrsteer_core.evaluation.evaluation import Evaluation
    from corrsteer_core.models.loading import Model

EMBEDDED_SOURCE = "embedded"  # as in saes.sources, which a start without torch does not load


def fit(
    task: str | None = None,
    model: Model | str | Path | None = None,
    *,
    sae: str | Sequence[str] = EMBEDDED_SOURCE,
    layers: Sequence[int] | None = None,
    data: str | Path | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    pooling: str = DEFAULT_POOLING,
    seed: int = 0,
    chat: bool | None = None,
    system: str = "",
    shots: int = 0,
    columns: Mapping[str, str] | None = None,
    scorer: str = "",
    judge: str = "",
    settings: FitSettings = FitSettings(),
    batch_size: int | None = None,
    progress: Progress = silent,
) -> Run:
    """Run a model on a task, read its features while it answers, and rank them; goes on where it stopped.

    `task` is a task's name; `data`, a file (JSON lines, CSV, Parquet), replaces its items, and with a `scorer` ("letter",
    ...) is a task of its own: leave `task` out. `columns` says what the file calls our fields ({"prompt": "question"}).
    `judge` scores in place of the task's rules. `model` is what `load_model` returns or takes (None: the embedded one);
    `sae` names the SAEs (a folder, "release/id", "owner/repository/folder"), of which `layers` picks some. `limit` is how
    many items, `shots` how many of them are shown with their answers before every prompt, `progress(stage, done, total)` is
    called with how far it is. The same arguments give the same run; what is in the cache is not done again, but for the
    ranking. Raises CorrSteerError for a task, model, SAE or pairing that is not there or cannot be right.
    """
    from corrsteer_core.method import collecting, run_setup

    words: dict[str, Any] = {"chat": chat, "system": system, "shots": shots, "scorer": scorer, "judge": judge}
    setup = run_setup.set_up(
        _with_columns(_asked(task, scorer, data, max_new_tokens), columns, data),
        model=_loaded(model),
        sae=[sae] if isinstance(sae, str) else list(sae),
        layers=layers,
        data=None if data is None else Path(data),
        limit=limit,
        max_new_tokens=max_new_tokens,
        pooling=pooling,
        seed=seed,
        **words,
    )
    collecting.collect(setup, batch_size=batch_size, progress=progress)
    collecting.refit(setup.run, settings, progress)
    return Run(setup.run, setup)


def evaluate(
    steering: SteeringSet,
    *,
    task: str | None = None,
    controls: int | None = None,
    matched: int | None = None,
    split: str = "test",
    scale: float | None = None,
    limit: int | None = None,
    data: str | Path | None = None,
    max_new_tokens: int | None = None,
    balance: float | None = None,
    against: str | Sequence[str] = (),
    against_system: str | Sequence[str] = (),
    against_shots: int | str | Path = 0,
    seed: int = 0,
    model: Model | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Measure a set on samples that its run held back, against the unsteered model, and keep the result with the run.

    `task` is the set's own unless named. `controls` random sets of like frequency and length are measured beside it (None:
    19, or none where the run is not cached), with its sign turned round, its push on words as one constant and, for a set
    that P or V chose, `matched` sets chosen alike among random features (None: 5). `against` names what a user would try
    first ("prompts", "offset", "difference", "constrained", or "all"), `against_system` texts to begin the prompt with,
    `against_shots` how many training samples to show with their answers, or a file of examples; the verdict says which is
    best. `balance` is the share (0.8) of the first class of answers, reached by leaving out samples by the `seed`. `scale`
    takes the place of the set's own, `model` of the one in memory or loaded again. Rates and effects are shares (0 to 1),
    fluency is in nats per token; `.verdict` prints as a sentence, `.samples` is a DataFrame with both texts and outcomes.
    Raises CorrSteerError for another model, an empty split, and controls of a set whose run is not in the cache.
    """
    from corrsteer_core.evaluation.exam import Balance
    from corrsteer_core.method.evaluating import evaluate as measured

    return measured(
        steering,
        _task_of(steering, task),
        split=split,
        data=None if data is None else Path(data),
        scale=scale,
        limit=limit,
        max_new_tokens=max_new_tokens,
        balance=None if balance is None else Balance(balance, seed),
        control_count=controls,
        matched=matched,
        against=_against(against, against_system, against_shots),
        seed=seed,
        model=model or in_memory(steering.model_fingerprint),
        progress=progress,
    )


def _against(kinds: str | Sequence[str], systems: str | Sequence[str], shots: int | str | Path) -> Against:
    texts = (systems,) if isinstance(systems, str) and systems else tuple(systems)
    count, file = (shots, None) if isinstance(shots, int) else (0, Path(shots))
    return Against(kinds_named(kinds) if kinds else (), texts, count, file)


def generate(
    prompt: str | list[dict[str, str]],
    steering: SteeringSet,
    model: Model | None = None,
    *,
    scale: float | None = None,
    max_new_tokens: int = 60,
    temperature: float = 0.0,
    seed: int = 0,
) -> tuple[str, str]:
    """The unsteered and the steered answer to one prompt, put to the model as when the set was fitted.

    `prompt` is a text, or the turns of a chat ({"role": ..., "content": ...}) that ends with the user's. `temperature`
    0 takes the likeliest token; above it, both answers are drawn with the same random numbers. Raises CorrSteerError
    for another model than the set's, an empty prompt, and one too long for the model.
    """
    from corrsteer_core.engine.choosing import sampled
    from corrsteer_core.inspection.playground import side_by_side

    return side_by_side(
        steering,
        prompt,
        scale=scale,
        max_new_tokens=max_new_tokens,
        model=model or in_memory(steering.model_fingerprint),
        choose=sampled(temperature, seed),
    )


def _loaded(model: Model | str | Path | None) -> Model:
    if model is None:
        return load_model()
    return load_model(model) if isinstance(model, str | Path) else held(model)


def _asked(task: str | None, scorer: str, data: str | Path | None, max_new_tokens: int | None) -> Task:
    """The task that is meant by a name, or by a file and a scorer."""
    if bool(task) == bool(scorer):
        raise CorrSteerError(
            "Name a task, as in fit('sentiment'), or give a file with its scorer: fit(data=, scorer=)."
        )
    if not scorer:
        return get_task(str(task))
    if data is None:
        raise CorrSteerError(f"The scorer {scorer} needs the file that it is for; add data=.")
    tokens: dict[str, Any] = {"max_new_tokens": max_new_tokens} if max_new_tokens else {}
    return custom_task(scorer, Path(data), **tokens)


def _with_columns(task: Task, columns: Mapping[str, str] | None, data: str | Path | None) -> Task:
    if columns and data is None:
        raise CorrSteerError("columns= says what a file calls its columns; name the file with data=.")
    return replace(task, columns=as_columns(columns)) if columns else task


def _task_of(steering: SteeringSet, asked: str | None) -> Task:
    """The task to measure a set on: the one named, else its own, which may be a file that only its run knows."""
    name = asked or steering.task
    if not name:
        raise CorrSteerError(f"The set {steering.name!r} belongs to no task; name one: evaluate(v, task='sentiment').")
    if name not in TASKS and name == steering.task and is_cached(steering.run):
        return task_of(stored(steering.run)[0])
    return get_task(name)
