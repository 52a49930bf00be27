"""What a user asks for, each in one function: collect and fit a run, choose a set, measure it, generate.

Every function takes what it needs by name and leaves its result in the run's file; the command line
and the app only call these and show what they return.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from corrsteer_core import correlation, selection
from corrsteer_core.batches import answers, prompts_that_fit
from corrsteer_core.capture import Pooling, sparse_rows
from corrsteer_core.config import RunConfig
from corrsteer_core.errors import CorrSteerError
from corrsteer_core.evaluate import trial, unsteered_and
from corrsteer_core.fit import FitSettings, fit, not_fitted, sae_sizes, training_activations, training_outcomes
from corrsteer_core.generation import Choose, check_length, greedy
from corrsteer_core.hooks import HookPoint
from corrsteer_core.lengths import stream_lengths
from corrsteer_core.models import EMBEDDED, Model, dtype_to_go_on, load_model
from corrsteer_core.progress import Progress, part_of, silent
from corrsteer_core.prompts import PromptStyle, answer_text, render, resolve_style
from corrsteer_core.saes import EMBEDDED_SOURCE, Sae, load_saes
from corrsteer_core.steering import SaeRef, SteeringRow, SteeringSet, empty_set
from corrsteer_core.store import PATIENCE, Reader, Writer, query, run_path
from corrsteer_core.tasks import Item, Task, custom_task, get_task, load_with_shots, with_judge

Strategy = Literal["S", "A", "P", "V"]

DEFAULT_RANKING = "pearson_r"
CANDIDATE = ["layer", "feature", "scale"]
"""What names a candidate."""
TRIED_TOGETHER = 96
"""Candidates measured and stored at a time: every group reads the prompts once more, and is what an interruption can lose."""


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
    pooling: Pooling = "max",
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
        saes=tuple(SaeRef.of(one) for one in saes),
        style=resolve_style(model, chat=chat, task_chat=task.chat, system=system, shots=examples),
        max_new_tokens=max_new_tokens or task.max_new_tokens,
        pooling=pooling,
        seed=seed,
        limit=limit,
        data=str(data.resolve()) if data else "",
        scorer=scorer,
        judge=judge,
    )
    return Setup(config.run_id(items), config, model, saes, task, items)


def reopen(run: str, model: Model | None = None) -> Setup:
    """A cached run with its model, SAEs and items, checked to be the ones it was made with."""
    config, items = stored(run)
    model = model or load_model(config.model, dtype=dtype_to_go_on(config.dtype))
    if model.fingerprint != config.model_fingerprint:
        raise CorrSteerError(f"The run {run} was made with other weights than the model {model.name} has now.")
    saes = saes_of(config.saes, model)
    return Setup(run, config, model, saes, task_of(config), items)


def task_of(config: RunConfig) -> Task:
    """The task of a run: a named one, or the user's own file with its scorer."""
    if config.scorer:
        tokens, chat = config.max_new_tokens, config.style.chat
        task = custom_task(config.scorer, Path(config.data), max_new_tokens=tokens, chat=chat)
    else:
        task = get_task(config.task)
    return with_judge(task, config.judge) if config.judge else task


def stored(run: str) -> tuple[RunConfig, list[Item]]:
    """Configuration and items of a cached run."""
    rows = query(run, "SELECT config FROM runs")
    if rows.empty:
        raise CorrSteerError(f"The run {run} in {run_path(run)} is empty; delete it and collect it anew.")
    body = json.loads(rows["config"][0])
    body["saes"] = tuple(SaeRef(**sae) for sae in body["saes"])
    body["style"]["shots"] = tuple(map(tuple, body["style"]["shots"]))
    body["style"] = PromptStyle(**body["style"])
    items = [json.loads(item) for item in query(run, "SELECT item FROM samples ORDER BY sample")["item"]]
    return RunConfig(**body), [Item(**{**item, "choices": tuple(item["choices"])}) for item in items]


def saes_of(refs: Sequence[SaeRef], model: Model) -> list[Sae]:
    """The very SAEs that a run or a set names. Raises CorrSteerError if one has changed since."""
    saes = load_saes([ref.source for ref in refs], model)
    for ref in refs:
        if not any(sae.layer == ref.layer and sae.fingerprint == ref.fingerprint for sae in saes):
            raise CorrSteerError(f"The SAE {ref.source} of layer {ref.layer} is not the one that was used before.")
    return saes


def collect(setup: Setup, *, batch_size: int | None = None, progress: Progress = silent) -> None:
    """Generate for every sample that is still missing and store outputs, outcomes and pooled activations."""
    prompts = [render(setup.model, item.prompt, setup.config.style) for item in setup.items]
    tokens = setup.config.max_new_tokens
    check_length(setup.model, prompts, tokens)  # before there is a run
    with Writer(setup.run) as store:
        size = store.begin(setup.config, setup.items, batch_size or prompts_that_fit(setup.model, prompts, tokens))
        finished = set(store.query("SELECT sample FROM samples WHERE outcome IS NOT NULL")["sample"])
        skip = frozenset(place for place, item in enumerate(setup.items) if item.id in finished)
        done = len(skip)

        def told(prompts_of_batch: float) -> None:
            progress("reading features while the model answers", int(done + prompts_of_batch), len(prompts))

        told(0)
        for batch in answers(
            setup.model,
            prompts,
            max_new_tokens=tokens,
            saes=setup.saes,
            pooling=setup.config.pooling,
            batch_size=size,
            skip=skip,
            told=told,
        ):
            _store_batch(store, setup, batch.prompts, [row[0] for row in batch.tokens], batch.pooled or [])
            done += len(batch.prompts)
            told(0)


def _store_batch(store: Writer, setup: Setup, places: list[int], tokens: list[list[int]], pooled: list) -> None:
    items = [setup.items[place] for place in places]
    outputs = [answer_text(setup.model, ids) for ids in tokens]
    store.add_batch(
        samples=[item.id for item in items],
        outputs=outputs,
        outcomes=[setup.task.scorer(output, item) for output, item in zip(outputs, items, strict=True)],
        tokens=[len(ids) for ids in tokens],
        active={sae.layer: sparse_rows(z) for sae, z in zip(setup.saes, pooled, strict=True)},
    )


def refit(run: str, settings: FitSettings = FitSettings(), progress: Progress = silent) -> None:
    """Fit a cached run anew; needs no model."""
    run_path(run)
    with Writer(run) as store:
        fit(store, settings, progress)


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


def rankable_features(run: str, *, ranking: str = DEFAULT_RANKING, negative: bool = False) -> pd.DataFrame:
    """Features that a strategy may choose, the best first. Raises CorrSteerError when there are none."""
    summary = fit_summary(run)
    if summary["constant"]:
        raise CorrSteerError(
            f"The outcome of {run} is constant (success rate {summary['success_rate']:.0%} on the training samples), so no "
            f"feature correlates with it; choose a task that the model sometimes fails and sometimes solves."
        )
    features = features_of(run)
    if ranking != DEFAULT_RANKING:
        features = features.merge(scores(run, ranking), on=["layer", "feature"])
    chosen = selection.rankable(features, int(summary["floor"]), negative=negative)
    if chosen.empty:
        r = "r" if negative else "r above 0"
        raise CorrSteerError(f"No feature of {run} fired in {summary['floor']} training samples with {r}.")
    return chosen


def scores(run: str, ranking: str) -> pd.DataFrame:
    """Another ranking of the features, from the cache: layer, feature, score (higher is better)."""
    rank = correlation.RANKINGS.get(ranking)
    if rank is None:
        raise CorrSteerError(f"Unknown ranking {ranking!r}; known are {', '.join(correlation.RANKINGS)}.")
    frames = []
    with Reader(run) as store:
        y = training_outcomes(store).to_numpy()
        for layer, d_sae in sae_sizes(store).items():
            score = rank(training_activations(store, layer, d_sae), y)
            frames.append(pd.DataFrame({"layer": layer, "feature": np.arange(d_sae), "score": score}))
    return pd.concat(frames, ignore_index=True)


def try_candidates(
    run: str,
    *,
    per_layer: int = selection.PER_LAYER,
    scales: Sequence[float] = selection.SCALES,
    longest: float = selection.LONGEST,
    features: pd.DataFrame | None = None,
    setup: Setup | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Steer each candidate of -V alone on the validation split; returns and stores `effects`. Those known are not repeated.

    Candidates whose vector is longer than the share `longest` of the activation it is added to are tried at that length.
    """
    setup = setup or reopen(run)
    listed = selection.candidates(features if features is not None else rankable_features(run), per_layer, scales)
    return _tried(setup, selection.gentle(_with_shares(setup, listed), longest), progress)


def _tried(setup: Setup, wanted: pd.DataFrame, progress: Progress) -> pd.DataFrame:
    """The effects of some candidates, measured where they are not known yet."""
    # Collecting more and fitting anew moves the coefficient: then what was tried is another thing.
    same = [*CANDIDATE, "coefficient"]
    known = query(setup.run, "SELECT * FROM effects")
    listed = wanted.merge(known[same].drop_duplicates(), on=same, how="left", indicator="known")
    listed["known"] = listed["known"] == "both"
    for start in range(0, len(listed), TRIED_TOGETHER):
        # Cut before the known ones are left out: who is tried with whom does not depend on where the work was stopped.
        some = listed.iloc[start : start + TRIED_TOGETHER]
        some = some[~some["known"]].drop(columns="known").reset_index(drop=True)
        if len(some):
            done = int((~listed["known"][:start]).sum())
            new = int((~listed["known"]).sum())
            _try(setup, some, part_of(progress, done / new, len(some) / new))
    return query(setup.run, "SELECT * FROM effects").merge(wanted[CANDIDATE], on=CANDIDATE)


def _try(setup: Setup, some: pd.DataFrame, progress: Progress) -> None:
    """Steer some candidates alone and store what each did."""
    rows = [[selection.as_row(one)] for one in some.itertuples()]
    outcomes = _validation(setup, _empty(setup), rows, "trying features one by one", progress)
    with Writer(setup.run, wait=PATIENCE) as store:
        store.add("effects", selection.effects(some, outcomes[:, 0], outcomes[:, 1:]))


def _with_shares(setup: Setup, candidates: pd.DataFrame) -> pd.DataFrame:
    """Candidates with `share`: length of the vector over the mean length of the activation it is added to."""
    streams = activation_lengths(setup, [sae.point for sae in setup.saes])
    shares = np.zeros(len(candidates))
    for sae in setup.saes:
        here = (candidates["layer"] == sae.layer).to_numpy()
        rows = candidates[here]
        lengths = sae.directions(rows["feature"].tolist()).norm(dim=-1).cpu().numpy()
        shares[here] = lengths * rows["coefficient"].abs() * rows["scale"] / streams[sae.point]
    return candidates.assign(share=shares)


def activation_lengths(setup: Setup, points: Sequence[HookPoint]) -> dict[HookPoint, float]:
    """Mean length of the activations that vectors are added to; not even that is taken from what is held back."""
    known = [item for item in setup.items if item.split != "test"]
    return stream_lengths(setup.model, points, [render(setup.model, item.prompt, setup.config.style) for item in known])


def select(
    run: str,
    strategy: Strategy,
    *,
    per_layer: int | None = None,
    scales: Sequence[float] = selection.SCALES,
    longest: float = selection.LONGEST,
    ranking: str = DEFAULT_RANKING,
    negative: bool = False,
    setup: Setup | None = None,
    progress: Progress = silent,
) -> SteeringSet:
    """Choose a steering set by a strategy, keep it with the run under the strategy's name, and return it.

    `per_layer` is how many features of a layer A and P take (1) and V tries (8). `ranking` names one
    of correlation.RANKINGS. What P and V saw on the validation split is kept in `effects`.
    """
    if per_layer is not None and per_layer < 1:
        raise CorrSteerError(f"{per_layer} features per layer were asked for; ask for at least 1.")
    features = rankable_features(run, ranking=ranking, negative=negative)
    config, _ = stored(run)
    base = SteeringSet(
        config.model,
        config.model_fingerprint,
        config.saes,
        run=run,
        task=config.task,
        style=config.style,
        name=_set_name(strategy, per_layer, ranking, negative, scales, longest),
    )
    if strategy == "S":
        rows = selection.best_overall(features)
    elif strategy == "A":
        rows = selection.best_per_layer(features, per_layer or 1)
    elif strategy == "P":
        rows = selection.pruned(try_layers(run, features, per_layer or 1, setup or reopen(run), progress))
    elif strategy == "V":
        opened = setup or reopen(run)
        found = try_candidates(
            run,
            per_layer=per_layer or selection.PER_LAYER,
            scales=scales,
            longest=longest,
            features=features,
            setup=opened,
            progress=progress,
        )
        most = max(1, selection.beyond_noise(found)["layer"].nunique() - 1)
        rounds = (part_of(progress, nth / most, 1 / most) for nth in range(most))
        rows = selection.grown(
            found, lambda groups: _validation(opened, base, groups, "adding layers", next(rounds))[:, 1:]
        )
    else:
        raise CorrSteerError(f"Unknown strategy {strategy!r}; known are S, A, P and V.")
    chosen = base.with_rows(rows)
    keep_set(run, chosen, strategy)
    return chosen


def try_layers(
    run: str, features: pd.DataFrame, per_layer: int, setup: Setup, progress: Progress = silent
) -> pd.DataFrame:
    """Steer each feature of -A alone, at scale 1, on the validation split: what -P prunes by."""
    listed = selection.candidates(features, per_layer, (1.0,))
    return _tried(setup, _with_shares(setup, listed), progress)


def seen_by_p(run: str, per_layer: int = 1, ranking: str = DEFAULT_RANKING, negative: bool = False) -> pd.DataFrame:
    """What -P saw on the validation split, layer by layer, what it kept, and whether that could be noise."""
    features = rankable_features(run, ranking=ranking, negative=negative)
    listed = selection.candidates(features, per_layer, (1.0,))
    return selection.seen_by_p(query(run, "SELECT * FROM effects").merge(listed[CANDIDATE], on=CANDIDATE))


def _set_name(
    strategy: Strategy, per_layer: int | None, ranking: str, negative: bool, scales: Sequence[float], longest: float
) -> str:
    parts = [str(strategy)]
    parts += [f"top {per_layer}"] if per_layer and strategy != "S" else []
    parts += [ranking.replace("_", " ")] if ranking != DEFAULT_RANKING else []
    parts += ["with negative"] if negative else []
    if strategy == "V":
        parts += [f"scales {' '.join(f'{one:g}' for one in scales)}"] if tuple(scales) != selection.SCALES else []
        parts += [f"up to {100 * longest:g}%"] if longest != selection.LONGEST else []
    return ", ".join(parts)


def keep_set(run: str, steering: SteeringSet, strategy: str = "hand", *, wait: float = PATIENCE) -> None:
    """Keep a set with its run, in place of one of the same name.

    Raises CorrSteerError when the run is still being written by another process after `wait` seconds.
    """
    run_path(run)
    body = {"name": steering.name, "strategy": strategy, "created": pd.Timestamp.now("UTC").tz_localize(None)}
    with Writer(run, wait=wait) as store:
        store.add("sets", pd.DataFrame([{**body, "content": steering.content, "body": steering.to_json()}]))


def kept_sets(run: str) -> dict[str, SteeringSet]:
    """The sets kept with a run, by name, oldest first."""
    rows = query(run, "SELECT name, body FROM sets ORDER BY created")
    return {row.name: SteeringSet.from_json(row.body, f"the set {row.name}") for row in rows.itertuples(index=False)}


def _empty(setup: Setup) -> SteeringSet:
    return empty_set(setup.model, setup.saes, run=setup.run, task=setup.config.task, style=setup.config.style)


def _validation(
    setup: Setup, base: SteeringSet, groups: Sequence[Sequence[SteeringRow]], stage: str, progress: Progress
) -> np.ndarray:
    """Outcomes on the validation split, (samples, 1 + groups), unsteered first."""
    items = [item for item in setup.items if item.split == "validation"]
    if not items:
        raise CorrSteerError(
            f"The run {setup.run} has no validation samples to try features on; collect it with a larger limit."
        )
    found = trial(
        setup.model,
        items,
        unsteered_and(*(base.with_rows(rows).vectors(setup.saes) for rows in groups)),
        style=setup.config.style,
        scorer=setup.task.scorer,
        max_new_tokens=setup.config.max_new_tokens,
        stage=stage,
        progress=progress,
    )
    return found.outcomes


def side_by_side(
    steering: SteeringSet,
    prompt: str | list[dict[str, str]],
    *,
    scale: float | None = None,
    max_new_tokens: int = 60,
    model: Model | None = None,
    saes: Sequence[Sae] | None = None,
    choose: Choose = greedy,
) -> tuple[str, str]:
    """The unsteered and the steered answer to one prompt, decoded together from one reading of it."""
    model = model or load_model(steering.model)
    steering.check_model(model)
    steering = steering if scale is None else replace(steering, scale=scale)
    vectors = steering.vectors(saes or saes_of(steering.saes, model))
    ids = render(model, prompt, steering.style)
    (batch,) = answers(
        model, [ids], max_new_tokens=max_new_tokens, variants=unsteered_and(vectors), batch_size=1, choose=choose
    )
    unsteered, steered = (answer_text(model, tokens) for tokens in batch.tokens[0])
    return unsteered, steered
