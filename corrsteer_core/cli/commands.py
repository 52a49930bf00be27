"""What each command of the command line does: options in, a result that is ready for JSON out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli.printing import scalars

if TYPE_CHECKING:
    from corrsteer_core.runs.steering_set import SteeringSet
    from corrsteer_core.tasks import Task

# Modules that load torch or transformers are imported by the commands that need them, so that
# `--help`, `runs` and `features` answer at once.


def fit(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core.method import collecting, demo
    from corrsteer_core.runs.fit import FitSettings

    settings = FitSettings(options.floor, options.permutations)  # refused, if it is, before anything is collected
    setup = _set_up(options, report)
    report.weights = dict(demo.FIT)
    collecting.collect(setup, batch_size=options.batch_size, progress=report)
    collecting.refit(setup.run, settings, report)
    return _fitted(setup.run, options.top)


def study(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core.method import strategies
    from corrsteer_core.method.study import study

    return study(
        _set_up(options, report),
        strategies=options.strategies,
        rankings=options.rankings,
        per_layer=options.per_layer,
        scales=options.scales or strategies.SCALES,
        longest=options.longest,
        control_count=options.controls,
        with_baseline=options.baseline,
        batch_size=options.batch_size,
        progress=report,
    )


def _set_up(options: argparse.Namespace, report: Reporter):
    from corrsteer_core.method import run_setup
    from corrsteer_core.models.loading import load_model

    task = _task(options)
    model, saes = _model_and_saes(options)
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


def refit(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    from corrsteer_core.method import collecting
    from corrsteer_core.runs.fit import FitSettings

    collecting.refit(options.run, FitSettings(options.floor, options.permutations), report)
    return _fitted(options.run, options.top)


def _fitted(run: str, top: int) -> dict[str, Any]:
    from corrsteer_core.reporting import ranking_words
    from corrsteer_core.runs import run_facts, stored_run
    from corrsteer_core.storage import reading, run_folder

    summary = stored_run.fit_summary(run)
    chance = run_facts.chance(run)
    counts = reading.query(run, "SELECT count(*) AS samples, avg(outcome) AS success_rate FROM samples").iloc[0]
    return {
        "run": run,
        "database": str(run_folder.database_path(run)),
        "samples": int(counts["samples"]),
        "success_rate": float(counts["success_rate"]),
        "constant": bool(summary["constant"]),
        "chance": chance,
        "ranking": ranking_words.of_ranking(summary, chance).sentence,
        "top": _ranked(run, None, top),
    }


def _ranked(run: str, layer: int | None, top: int) -> list[dict[str, Any]]:
    from corrsteer_core.runs import stored_run

    floor = int(stored_run.fit_summary(run)["floor"])
    features = stored_run.features_of(run, layer)
    ranked = features[(features["support"] >= floor) & features["r"].notna()]
    return ranked.drop(columns="run").head(top).to_dict("records")


def runs(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.runs import run_facts

    found = run_facts.runs()
    for problem in found["problem"].dropna():
        print(f"warning: {problem}", file=sys.stderr)
    return found[found["problem"].isna()].drop(columns="problem").to_dict("records")


def features(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.method import candidates
    from corrsteer_core.runs import reliability, run_facts, stored_run

    floor = int(stored_run.fit_summary(options.run)["floor"])
    layers = run_facts.facts(options.run).layers
    if options.layer is not None and options.layer not in layers:
        raise CorrSteerError(
            f"The run {options.run} has no SAE of layer {options.layer}; its layers are {', '.join(map(str, layers))}."
        )
    features = stored_run.features_of(options.run, options.layer)
    ranked = features[(features["support"] >= floor) & features["r"].notna()].drop(columns="run")
    if options.ranking != candidates.DEFAULT_RANKING:
        scored = ranked.merge(candidates.scores(options.run, options.ranking), on=["layer", "feature"])
        ranked = scored.sort_values("score", ascending=False, kind="stable")
    top = ranked.head(options.top).reset_index(drop=True)
    return (reliability.intervals(options.run, top) if options.intervals else top).to_dict("records")


def describe(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    from dataclasses import asdict

    from corrsteer_core.inspection import descriptions

    if options.file:
        return asdict(descriptions.import_file(options.run, options.file))
    _quiet_libraries()
    from corrsteer_core.inspection import feature_profile

    return {"described": feature_profile.describe(options.run, top=options.top, progress=report)}


def feature(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core.inspection import descriptions, feature_profile
    from corrsteer_core.models.loading import load_model
    from corrsteer_core.runs import feature_facts, feature_lists, stored_run
    from corrsteer_core.saes import named_saes

    run, layer, feature = options.run, options.layer, options.feature
    config, _ = stored_run.stored(run)
    numbers = feature_facts.one_feature(run, layer, feature)
    model = load_model(config.model, report=report.note)
    drawn = feature_profile.portrait(run, layer, feature, model, named_saes.saes_of(config.saes, model))
    source = next(sae.source for sae in config.saes if sae.layer == layer)
    told = feature_facts.descriptions(run, layer, feature)[["source", "description"]].to_dict("records")
    result = {
        "layer": layer,
        "feature": feature,
        "neuronpedia": descriptions.neuronpedia_link(descriptions.neuronpedia_id(source), feature),
        "numbers": numbers,
        "descriptions": [*told, {"source": descriptions.GUESS.lower(), "description": drawn.guess}],
        "effects": feature_lists.effects(run, layer, feature)
        .drop(columns=["layer", "feature", "r"])
        .to_dict("records"),
        **feature_profile.as_json(drawn),
    }
    del result["guess"]
    return result if options.json else _readable(result)


def _readable(result: dict[str, Any]) -> dict[str, Any]:
    """A feature for reading: no more than fits on a screen, and texts as text."""
    for name in ("promoted", "suppressed"):
        result[name] = ", ".join(f"{one['text']!r} {one['score']:+.2f}" for one in result[name])
    for name in ("nearest_within", "nearest_elsewhere"):
        result[name] = ", ".join(
            f"layer {one['layer']} · {one['feature']} ({one['cosine']:.2f})" for one in result[name]
        )
    result["numbers"] = scalars(result["numbers"] or {"fired in": "no training sample"})
    result["numbers"].pop("description", None)
    result["numbers"].pop("description_source", None)
    result["texts"] = [
        {"part": one["part"], "pooled": one["pooled"], "outcome": one["outcome"], "text": _marked(one["tokens"])}
        for one in result["texts"]
    ]  # fmt: skip
    return result


def _marked(tokens: Sequence[dict[str, Any]]) -> str:
    """The stretch around a text's most active token, with tokens of at least half its activation in brackets."""
    highest = max(one["activation"] for one in tokens)
    at = next(place for place, one in enumerate(tokens) if one["activation"] == highest)
    some = tokens[max(0, at - 12) : at + 8]
    bracketed = (f"[{one['text']}]" if one["activation"] >= highest / 2 > 0 else one["text"] for one in some)
    return repr("".join(bracketed))[1:-1]


def convergence(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.runs import reliability

    return reliability.convergence(options.run, top=options.top).to_dict("records")


def select(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core.method import demo, selecting, strategies
    from corrsteer_core.runs.steering_set import save_set

    report.weights = dict(demo.SELECT)
    chosen = selecting.select(
        options.run,
        options.strategy,
        per_layer=options.per_layer,
        scales=options.scales or strategies.SCALES,
        longest=options.longest,
        ranking=options.ranking,
        negative=options.negative,
        progress=report,
    )
    if options.out:
        save_set(chosen, options.out)
    result = json.loads(chosen.to_json())
    if options.strategy == "P":
        seen = selecting.seen_by_p(options.run, options.per_layer or 1, options.ranking, options.negative)
        result["seen"] = seen.drop(columns="run").to_dict("records")
    if not chosen.rows:
        why = "no feature of A helps alone" if options.strategy == "P" else "no candidate's effect is beyond noise"
        print(f"{why} on the validation split; the set is empty", file=sys.stderr)
    return result


def effects(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.runs import feature_lists

    rows = feature_lists.effects(options.run)
    if rows.empty:
        raise CorrSteerError(
            f"No candidate of {options.run} has been tried yet; run 'select {options.run} --strategy V' first."
        )
    return rows.to_dict("records")


def generate(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core.engine.generation import sampled
    from corrsteer_core.inspection import playground
    from corrsteer_core.runs.steering_set import load_set

    unsteered, steered = playground.side_by_side(
        load_set(options.set),
        options.prompt,
        scale=options.scale,
        max_new_tokens=options.max_new_tokens,
        choose=sampled(options.temperature, options.seed),
    )
    return {"unsteered": unsteered, "steered": steered}


def export(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    _quiet_libraries()
    from corrsteer_core.engine import exports
    from corrsteer_core.models.loading import load_model
    from corrsteer_core.runs.steering_set import load_set
    from corrsteer_core.saes import named_saes

    steering, out = load_set(options.set), options.out
    suffix = exports.SUFFIXES[options.format]
    _check_ending(out, f"An export as {options.format}", suffix)
    if not options.force:
        exports.refuse_existing(exports.files_of(options.format, out))
    model, saes = None, []
    if options.format != "json":
        model = load_model(steering.model, report=report.note)
        from corrsteer_core.engine.steering import check_model

        check_model(steering, model)
        saes = named_saes.saes_of(steering.active_saes, model)
    files = exports.exported(steering, options.format, out.stem, model, saes)
    paths = exports.write_new(out.parent, files, replace=options.force)
    return [{"file": str(path), "bytes": path.stat().st_size} for path in paths]


def report(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    from corrsteer_core.reporting.report import write

    _check_ending(options.out, "A report", ".html", ".htm")
    path = write(options.run, options.out, replace=options.force)
    return {"file": str(path), "bytes": path.stat().st_size}


def _check_ending(out: Path, what: str, *endings: str) -> None:
    if out.suffix not in endings:
        better = out.with_suffix(endings[0]) if out.name else out / f"out{endings[0]}"  # "." and "/" have no name
        raise CorrSteerError(f"{what} is a file that ends in {endings[0]}; name it {better}.")


def evaluate(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core.evaluation import measure
    from corrsteer_core.reporting.verdict import verdict
    from corrsteer_core.runs.steering_set import load_set

    steering = load_set(options.set)
    named = [options.task] if options.task is not None else None
    found = measure.evaluate_set(
        steering,
        _task(options) if options.scorer else _tasks_for([steering], named)[0],
        split=options.split,
        data=options.data,
        scale=options.scale,
        limit=options.limit,
        max_new_tokens=options.max_new_tokens,
        control_count=options.controls,
        progress=report,
    )
    summary = found.summary()
    return {**summary, "verdict": verdict(summary).sentence}


def sweep(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    _quiet_libraries()
    import pandas as pd

    from corrsteer_core.evaluation import measure
    from corrsteer_core.reporting import comparisons
    from corrsteer_core.runs.steering_set import load_set

    steering = load_set(options.set)
    tasks = _tasks_for([steering], options.task)
    found = measure.sweep(steering, tasks, options.scales, split=options.split, limit=options.limit, progress=report)
    rows = [_measured_row(one) for one in found]
    best = comparisons.pareto(pd.DataFrame(rows))
    return [{**row, "pareto": row["scale"] in best} for row in rows]


def transfer(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    _quiet_libraries()
    from corrsteer_core.evaluation import measure
    from corrsteer_core.runs.steering_set import load_set

    sets = [load_set(path) for path in options.set]
    tasks = _tasks_for(sets, options.task)
    found = measure.transfer(sets, tasks, split=options.split, limit=options.limit, progress=report)
    # Sets of several runs are all called "A"; run and content tell them apart. Every task has the sets in their order.
    return [
        {"set": one.name, "run": of.run, "content": one.content, **_measured_row(one)}
        for one, of in zip(found, cycle(sets), strict=False)
    ]


def _tasks_for(sets: Sequence[SteeringSet], names: Sequence[str] | None) -> list[Task]:
    """The tasks to measure sets on: those named, else the sets' own. A file of the user's own is known to its run."""
    from corrsteer_core.runs import stored_run
    from corrsteer_core.storage.run_folder import is_cached
    from corrsteer_core.tasks import TASKS, get_task

    def task(name: str) -> Task:
        owner = next((one for one in sets if one.task == name and one.run), None)
        if name in TASKS or owner is None:
            return get_task(name)
        if not is_cached(owner.run):
            raise CorrSteerError(
                f"The set {owner.name!r} was fitted on a file of your own ({name}) in the run {owner.run}, which is not "
                f"cached; name the tasks to measure on with --task, or make the run anew."
            )
        return stored_run.task_of(stored_run.stored(owner.run)[0])

    names = names or sorted({one.task for one in sets if one.task})
    if not names:
        raise CorrSteerError("No set says which task it was fitted on; name the tasks to measure on with --task.")
    return [task(name) for name in names]


def _measured_row(one: Any) -> dict[str, Any]:
    """An evaluation as one row of a table."""
    summary = one.summary()
    fluency = summary["fluency"]
    rates = ("set", "task", "scale", "n", "unsteered_rate", "steered_rate", "steered_interval", "effect")
    shown = (*rates, "positive_flips", "negative_flips", "ser", "p")
    return {
        **{name: summary[name] for name in shown},
        "fluency_unsteered": fluency["unsteered"],
        "fluency_steered": fluency["steered"],
    }


def baseline(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core.method import difference_baseline, run_setup

    found = difference_baseline.baseline(
        run_setup.reopen(options.run), split=options.split, longest=options.longest, progress=report
    )
    if found["measured"] is None:
        print("no difference vector's effect is beyond noise on the validation split", file=sys.stderr)
    return {
        "chosen": found["chosen"],
        "measured": found["measured"],
        "tried": found["tried"].to_dict("records"),
    }


def check(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    _quiet_libraries()
    from corrsteer_core.models.loading import load_model
    from corrsteer_core.models.prompts import render, resolve_style
    from corrsteer_core.saes.reconstruction import explained, looks_broken
    from corrsteer_core.saes.sae import load_saes
    from corrsteer_core.tasks import get_task, load_items

    name, sources = _model_and_saes(options)
    model = load_model(name, report=report.note)
    style = resolve_style(model, chat=None, task_chat=True)
    prompts = [render(model, item.prompt, style) for item in load_items(get_task("overrefusal"), limit=options.prompts)]
    rows = []
    loaded = load_saes(sources, model, options.layers)
    for sae, (own, *neighbours) in zip(loaded, explained(model, loaded, prompts, report), strict=True):
        if problem := looks_broken(own, *neighbours):
            print(f"warning: {sae.source}: {problem}", file=sys.stderr)
        row = {"sae": sae.source, "hook_point": own.point.name, "positions": own.positions}
        at = {own.point.layer: own, **{one.point.layer: one for one in neighbours}}
        for where, layer in (("own", sae.layer), ("before", sae.layer - 1), ("after", sae.layer + 1)):
            fit = at.get(layer)
            row[f"explained_{where}"] = fit.variance_explained if fit else None
            row[f"l0_{where}"] = fit.l0 if fit else None
        rows.append(row)
    return rows


def saes(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.saes import registry

    found = registry.search(options.words)
    if not found:
        raise CorrSteerError(
            f"SAELens' registry has no SAE with {' and '.join(map(repr, options.words))}; try fewer or shorter words."
        )
    if not any(word in registry.releases() for word in options.words):
        return registry.by_release(found)
    return [
        {"source": one.source, "layer": one.layer, "hook": one.hook, "l0": one.l0, "neuronpedia": one.neuronpedia}
        for one in found
    ]


def presets(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.saes.presets import PRESETS

    return [
        {"preset": one.name, "model": one.model, "release": one.release, "layers": len(one.ids), "first": one.ids[0]}
        for one in PRESETS.values()
    ]


def demo(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core.method import demo

    report.weights = dict(demo.STAGES)
    return demo.run_demo(report)


def train_sae(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    _quiet_libraries()
    from corrsteer_core.models.loading import load_model
    from corrsteer_core.saes.training import TrainConfig, train_saes

    config = TrainConfig(
        layers=options.layers,
        tokens=options.tokens,
        d_sae=options.d_sae,
        k=options.k,
        epochs=options.epochs,
        seed=options.seed,
    )
    return train_saes(load_model(options.model, report=report.note), options.text, options.out, config, report)


def _task(options: argparse.Namespace):
    from corrsteer_core.tasks import custom_task, get_task

    if options.scorer and options.task is not None:
        raise CorrSteerError(
            f"--scorer makes the file of --data a task of its own, which is not {options.task}; leave out --scorer or --task."
        )
    if not options.scorer:
        if options.task is None:
            raise CorrSteerError("Name a task with --task, or give your own with --data FILE --scorer NAME.")
        return get_task(options.task)
    if options.data is None:
        raise CorrSteerError("A task of your own needs its file; add --data FILE.")
    tokens = {"max_new_tokens": options.max_new_tokens} if options.max_new_tokens else {}
    return custom_task(options.scorer, options.data, **tokens)


def _model_and_saes(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Model and SAE sources as asked: a preset's (whose model may be given as another copy of it), or by name."""
    from corrsteer_core.base.paths import EMBEDDED
    from corrsteer_core.saes.presets import get_preset

    if not options.preset:
        return options.model or EMBEDDED, options.sae or ["embedded"]
    if options.sae:
        raise CorrSteerError("A preset brings its own SAEs; give --preset or --sae, not both.")
    preset = get_preset(options.preset)
    return options.model or preset.model, preset.sources(options.layers)


def _quiet_libraries() -> None:
    """Progress bars and notices of libraries would tear our own progress line."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
