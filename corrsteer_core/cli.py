"""The command line: the same words as the method's, results on standard output, progress on standard error."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corrsteer_core.errors import CorrSteerError
from corrsteer_core.progress import Reporter

# Modules that load torch or transformers are imported by the commands that need them, so that
# `--help`, `runs` and `features` answer at once.

CANCELLED = 130
FAILED = 1
RANKINGS = ("pearson_r", "difference_of_means", "fisher_ratio", "mutual_information")
DEFAULT_LONGEST = 0.06


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. No traceback reaches the user for anything they can mend."""
    options = _parser().parse_args(arguments)
    report = Reporter(file=options.progress_file, quiet=options.quiet)
    if options.device:
        os.environ["CORRSTEER_DEVICE"] = options.device  # whatever loads a model looks there
    try:
        result = options.command(options, report)
        report.finish()
        print(json.dumps(_plain(result), allow_nan=False) if options.json else _human(result), flush=True)
    except CorrSteerError as error:
        report.finish()
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        report.finish()
        print("stopped; what was finished is kept, run the same command again to go on", file=sys.stderr)
        return CANCELLED
    except BrokenPipeError:  # `| head` closed our output: nobody is left to tell, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


# --- commands ------------------------------------------------------------------------------------


def _fit(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core import pipeline
    from corrsteer_core.fit import FitSettings

    setup = _set_up(options, report)
    pipeline.collect(setup, batch_size=options.batch_size, progress=report)
    pipeline.refit(setup.run, FitSettings(options.floor, options.permutations), report)
    return _fitted(setup.run, options.top)


def _study(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core import selection
    from corrsteer_core.study import study

    return study(
        _set_up(options, report),
        strategies=options.strategies.split(","),
        rankings=[one for one in options.rankings.split(",") if one],
        per_layer=options.per_layer,
        scales=options.scales or selection.SCALES,
        longest=options.longest,
        control_count=options.controls,
        with_baseline=options.baseline,
        progress=report,
    )


def _set_up(options: argparse.Namespace, report: Reporter):
    from corrsteer_core import pipeline
    from corrsteer_core.models import load_model

    task = _task(options)
    model, saes = _model_and_saes(options)
    return pipeline.set_up(
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


def _refit(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    from corrsteer_core import pipeline
    from corrsteer_core.fit import FitSettings

    pipeline.refit(options.run, FitSettings(options.floor, options.permutations), report)
    return _fitted(options.run, options.top)


def _fitted(run: str, top: int) -> dict[str, Any]:
    from corrsteer_core import pipeline, store

    summary = pipeline.fit_summary(run)
    counts = store.query(run, "SELECT count(*) AS samples, avg(outcome) AS success_rate FROM samples").iloc[0]
    chance = store.query(run, "SELECT level, best, p FROM chance WHERE layer IS NULL")
    return {
        "run": run,
        "database": str(store.database_path(run)),
        "samples": int(counts["samples"]),
        "success_rate": float(counts["success_rate"]),
        "constant": bool(summary["constant"]),
        "chance": chance.iloc[0].to_dict() if len(chance) else None,
        "top": _ranked(run, None, top),
    }


def _ranked(run: str, layer: int | None, top: int) -> list[dict[str, Any]]:
    from corrsteer_core import pipeline

    floor = int(pipeline.fit_summary(run)["floor"])
    features = pipeline.features_of(run, layer)
    ranked = features[(features["support"] >= floor) & features["r"].notna()]
    return ranked.drop(columns="run").head(top).to_dict("records")


def _runs(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core import reader

    found = reader.runs()
    for problem in found["problem"].dropna():
        print(f"warning: {problem}", file=sys.stderr)
    return found[found["problem"].isna()].drop(columns="problem").to_dict("records")


def _features(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core import evidence, pipeline

    floor = int(pipeline.fit_summary(options.run)["floor"])
    features = pipeline.features_of(options.run, options.layer)
    ranked = features[(features["support"] >= floor) & features["r"].notna()].drop(columns="run")
    if options.ranking != pipeline.DEFAULT_RANKING:
        scored = ranked.merge(pipeline.scores(options.run, options.ranking), on=["layer", "feature"])
        ranked = scored.sort_values("score", ascending=False, kind="stable")
    top = ranked.head(options.top).reset_index(drop=True)
    return (evidence.intervals(options.run, top) if options.intervals else top).to_dict("records")


def _describe(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    from dataclasses import asdict

    from corrsteer_core import descriptions

    if options.file:
        return asdict(descriptions.import_file(options.run, options.file))
    _quiet_libraries()
    from corrsteer_core import portrait

    return {"described": portrait.describe(options.run, top=options.top, progress=report)}


def _feature(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core import descriptions, pipeline, portrait, reader
    from corrsteer_core.models import load_model

    run, layer, feature = options.run, options.layer, options.feature
    config, _ = pipeline.stored(run)
    numbers = reader.one_feature(run, layer, feature)
    model = load_model(config.model, report=report.note)
    drawn = portrait.portrait(run, layer, feature, model, pipeline.saes_of(config.saes, model))
    source = next(sae.source for sae in config.saes if sae.layer == layer)
    told = reader.descriptions(run, layer, feature)[["source", "description"]].to_dict("records")
    result = {
        "layer": layer,
        "feature": feature,
        "neuronpedia": descriptions.neuronpedia_link(descriptions.neuronpedia_id(source), feature),
        "numbers": numbers,
        "descriptions": [*told, {"source": descriptions.GUESS.lower(), "description": drawn.guess}],
        "effects": reader.effects(run, layer, feature).drop(columns=["layer", "feature", "r"]).to_dict("records"),
        **portrait.as_json(drawn),
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
    result["numbers"] = _scalars(result["numbers"] or {"fired in": "no training sample"})
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


def _convergence(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core import evidence

    return evidence.convergence(options.run, top=options.top).to_dict("records")


def _select(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core import pipeline, selection
    from corrsteer_core.steering import save_set

    chosen = pipeline.select(
        options.run,
        options.strategy,
        per_layer=options.per_layer,
        scales=options.scales or selection.SCALES,
        longest=options.longest,
        ranking=options.ranking,
        negative=options.negative,
        progress=report,
    )
    if options.out:
        save_set(chosen, options.out)
    result = json.loads(chosen.to_json())
    if options.strategy == "P":
        seen = pipeline.seen_by_p(options.run, options.per_layer or 1, options.ranking, options.negative)
        result["seen"] = seen.drop(columns="run").to_dict("records")
    if not chosen.rows:
        print("no candidate's effect is beyond noise; the set is empty", file=sys.stderr)
    return result


def _effects(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core import store

    rows = store.query(options.run, "SELECT * FROM effects ORDER BY steered_rate DESC, p, layer, feature, scale")
    if rows.empty:
        raise CorrSteerError(
            f"No candidate of {options.run} has been tried yet; run 'select {options.run} --strategy V' first."
        )
    return rows.drop(columns="run").to_dict("records")


def _generate(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core import pipeline
    from corrsteer_core.generation import sampled
    from corrsteer_core.steering import load_set

    unsteered, steered = pipeline.side_by_side(
        load_set(options.set),
        options.prompt,
        scale=options.scale,
        max_new_tokens=options.max_new_tokens,
        choose=sampled(options.temperature, options.seed),
    )
    return {"unsteered": unsteered, "steered": steered}


def _export(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    _quiet_libraries()
    from corrsteer_core import export, pipeline
    from corrsteer_core.models import load_model
    from corrsteer_core.steering import load_set

    steering, out = load_set(options.set), options.out
    suffix = export.SUFFIXES[options.format]
    if out.suffix != suffix:
        raise CorrSteerError(f"An export as {options.format} is a {suffix} file; name it {out.with_suffix(suffix)}.")
    if not options.force:
        export.refuse_existing(export.files_of(options.format, out))
    model, saes = None, []
    if options.format != "json":
        model = load_model(steering.model, report=report.note)
        steering.check_model(model)
        saes = pipeline.saes_of(steering.active_saes, model)
    files = export.exported(steering, options.format, out.stem, model, saes)
    paths = export.write_new(out.parent, files, replace=options.force)
    return [{"file": str(path), "bytes": path.stat().st_size} for path in paths]


def _report(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    from corrsteer_core import report as page

    if options.out.suffix not in (".html", ".htm"):
        raise CorrSteerError(f"A report is an .html file; name it {options.out.with_suffix('.html')}.")
    path = page.write(options.run, options.out, replace=options.force)
    return {"file": str(path), "bytes": path.stat().st_size}


def _evaluate(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core import evaluation
    from corrsteer_core.steering import load_set
    from corrsteer_core.verdict import verdict

    found = evaluation.evaluate_set(
        load_set(options.set),
        _task(options),
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


def _sweep(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    _quiet_libraries()
    import pandas as pd

    from corrsteer_core import comparisons, evaluation
    from corrsteer_core.steering import load_set
    from corrsteer_core.tasks import get_task

    steering = load_set(options.set)
    tasks = [get_task(name) for name in options.task or [steering.task]]
    found = evaluation.sweep(steering, tasks, options.scales, split=options.split, limit=options.limit, progress=report)
    rows = [_measured_row(one) for one in found]
    best = comparisons.pareto(pd.DataFrame(rows))
    return [{**row, "pareto": row["scale"] in best} for row in rows]


def _transfer(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    _quiet_libraries()
    from corrsteer_core import evaluation
    from corrsteer_core.steering import load_set
    from corrsteer_core.tasks import get_task

    sets = [load_set(path) for path in options.set]
    tasks = [get_task(name) for name in options.task or sorted({one.task for one in sets if one.task})]
    found = evaluation.transfer(sets, tasks, split=options.split, limit=options.limit, progress=report)
    return [_measured_row(one) for one in found]


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


def _baseline(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from dataclasses import asdict

    from corrsteer_core import caa, pipeline

    found = caa.baseline(pipeline.reopen(options.run), split=options.split, longest=options.longest, progress=report)
    measured = found["measured"]
    if measured is None:
        print("no difference vector's effect is beyond noise on the validation split", file=sys.stderr)
    return {
        "chosen": found["chosen"],
        "measured": measured and {**asdict(measured), "effect": measured.effect},
        "tried": found["tried"].to_dict("records"),
    }


def _check(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    _quiet_libraries()
    from corrsteer_core.check import explained, looks_broken
    from corrsteer_core.models import load_model
    from corrsteer_core.prompts import render, resolve_style
    from corrsteer_core.saes import load_saes
    from corrsteer_core.tasks import get_task, load_items

    name, sources = _model_and_saes(options)
    model = load_model(name, report=report.note)
    style = resolve_style(model, chat=None, task_chat=True)
    prompts = [render(model, item.prompt, style) for item in load_items(get_task("overrefusal"), limit=options.prompts)]
    rows = []
    for sae in load_saes(sources, model, options.layers):
        own, *neighbours = explained(model, sae, prompts)
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


def _saes(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core import registry

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


def _presets(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.presets import PRESETS

    return [
        {"preset": one.name, "model": one.model, "release": one.release, "layers": len(one.ids), "first": one.ids[0]}
        for one in PRESETS.values()
    ]


def _demo(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    _quiet_libraries()
    from corrsteer_core import demo

    report.weights = dict(demo.STAGES)
    return demo.run_demo(report)


def _train_sae(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    _quiet_libraries()
    from corrsteer_core.models import load_model
    from corrsteer_core.training import TrainConfig, train_saes

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
    from corrsteer_core.paths import EMBEDDED
    from corrsteer_core.presets import get_preset

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


# --- options -------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument("--quiet", action="store_true", help="print no progress")
    common.add_argument("--device", help="where a model runs: auto (all GPUs together), cpu, cuda, cuda:1, mps")
    common.add_argument("--progress-file", type=Path, help="also write progress to this file, as JSON")
    parser = argparse.ArgumentParser(
        prog="python -m corrsteer_core",
        description="Find the SAE features that go with success on a task, and steer a language model with them.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[common])
        made.set_defaults(command=function)
        return made

    fit = command("fit", _fit, "run a model on a task, read its features while it answers, and rank them")
    _run_options(fit)
    _fit_options(fit)

    study = command("study", _study, "the whole method on one task: fit, every strategy, controls and a baseline")
    _run_options(study)
    study.add_argument("--strategies", default="S,A,P,V", help="sets to choose (default: %(default)s)")
    study.add_argument("--rankings", default="", help="also set A by these other rankings, as fisher_ratio,...")
    study.add_argument("--controls", type=int, default=5, metavar="N", help="random sets each (default: %(default)s)")
    study.add_argument("--per-layer", type=_positive, help="features that V tries in each layer (default: 8)")
    study.add_argument("--scales", type=_scales, help="scales that V tries (default: 1,2,4,8)")
    study.add_argument(
        "--baseline", action=argparse.BooleanOptionalAction, default=True, help="also steer without SAE, to compare"
    )
    _longest_option(study)

    refit = command("refit", _refit, "fit a collected run anew, from the cache alone")
    refit.add_argument("run", metavar="RUN")
    _fit_options(refit)

    command("runs", _runs, "list the cached runs")

    features = command("features", _features, "list a run's features, highest correlation first")
    features.add_argument("run", metavar="RUN")
    features.add_argument("--layer", type=int, help="only this layer")
    features.add_argument("--top", type=_positive, default=20, help="how many (default: %(default)s)")
    features.add_argument(
        "--intervals", action="store_true", help="add 95%% bootstrap intervals of r and coefficient for these"
    )
    _ranking_option(features)

    convergence = command(
        "convergence", _convergence, "show which share of the top features fewer training samples would have found"
    )
    convergence.add_argument("run", metavar="RUN")
    convergence.add_argument("--top", type=_positive, default=10, help="how many features (default: %(default)s)")

    describe = command(
        "describe",
        _describe,
        "describe features: from a Neuronpedia file, or by a guess of our own from tokens and texts",
    )
    describe.add_argument("run", metavar="RUN")
    describe.add_argument("--file", type=Path, help="Neuronpedia's explanation export (JSON or JSON lines, also .gz)")
    describe.add_argument(
        "--top", type=_positive, default=60, help="without a file: how many features to describe (default: %(default)s)"
    )

    feature = command(
        "feature", _feature, "show all about one feature: numbers, descriptions, tokens, texts, neighbours, effects"
    )
    feature.add_argument("run", metavar="RUN")
    feature.add_argument("layer", metavar="LAYER", type=int)
    feature.add_argument("feature", metavar="FEATURE", type=int)

    select = command("select", _select, "choose a steering set: S, A (by correlation), P or V (by effect)")
    select.add_argument("run", metavar="RUN")
    select.add_argument("--strategy", required=True, choices=("S", "A", "P", "V"))
    select.add_argument("--out", type=Path, help="write the set to this file")
    select.add_argument("--per-layer", type=_positive, help="features per layer: A and P take 1, V tries 8")
    select.add_argument("--scales", type=_scales, help="scales that V tries (default: 1,2,4,8)")
    _longest_option(select)
    select.add_argument(
        "--negative", action="store_true", help="features of negative r too, subtracted (the paper found that harmful)"
    )
    _ranking_option(select)

    effects = command("effects", _effects, "list what steering with single features did on the validation split")
    effects.add_argument("run", metavar="RUN")

    generate = command("generate", _generate, "answer a prompt unsteered and steered")
    generate.add_argument("--set", type=Path, required=True, help="steering set (JSON)")
    generate.add_argument("--prompt", required=True)
    generate.add_argument("--scale", type=float, help="in place of the set's own global scale")
    generate.add_argument("--max-new-tokens", type=_positive, default=60)
    generate.add_argument("--temperature", type=float, default=0.0, help="0 takes the most probable token")
    generate.add_argument("--seed", type=int, default=0)

    export = command("export", _export, "write a set for other programs: transformers, llama.cpp, your own")
    export.add_argument("--set", type=Path, required=True, help="steering set (JSON)")
    export.add_argument("--format", choices=("json", "safetensors", "gguf", "python"), required=True)
    export.add_argument("--out", type=Path, required=True, help="the file; python also writes a .safetensors beside it")
    export.add_argument("--force", action="store_true", help="replace files that are there already")

    evaluate = command("evaluate", _evaluate, "measure a set against the unsteered model on the same samples")
    evaluate.add_argument("--set", type=Path, required=True, help="steering set (JSON)")
    evaluate.add_argument("--task", help="name of a task, the set's own or another")
    evaluate.add_argument("--scorer", default="", help="for a task of your own (--data): how an answer is scored")
    evaluate.add_argument("--data", type=Path, help="file with prompt (and target) in place of the task's own items")
    evaluate.add_argument("--split", choices=("train", "validation", "test"), default="test")
    evaluate.add_argument("--scale", type=float, help="in place of the set's own global scale")
    evaluate.add_argument("--limit", type=_positive, help="at most so many samples")
    evaluate.add_argument("--max-new-tokens", type=_positive)
    evaluate.add_argument(
        "--controls", type=int, default=0, metavar="N", help="also measure N random sets of like size"
    )

    sweep = command("sweep", _sweep, "measure a set at several scales, on its own task and on others")
    sweep.add_argument("--set", type=Path, required=True, help="steering set (JSON)")
    sweep.add_argument("--scales", type=_scales, default=(0.5, 1.0, 1.5, 2.0), help="as 0.5,1,2 (default: 0.5,1,1.5,2)")
    _measured_on(sweep)

    transfer = command("transfer", _transfer, "measure several sets on several tasks, as a matrix")
    transfer.add_argument("--set", type=Path, required=True, action="append", help="steering set (JSON); repeat")
    _measured_on(transfer)

    baseline = command(
        "baseline",
        _baseline,
        "compare with steering without SAE: the difference of activations of right and wrong answers",
    )
    baseline.add_argument("run", metavar="RUN")
    baseline.add_argument("--split", choices=("train", "validation", "test"), default="test")
    _longest_option(baseline)

    page = command("report", _report, "write a run as one HTML file, for people who will not open the app")
    page.add_argument("run", metavar="RUN")
    page.add_argument("--out", type=Path, required=True, help="the file (.html)")
    page.add_argument("--force", action="store_true", help="replace a file that is there already")

    check = command(
        "check", _check, "measure whether SAEs belong to a model: variance explained and L0, there and one block away"
    )
    _pairing_options(check)
    check.add_argument("--prompts", type=_positive, default=24, help="prompts to measure on (default: %(default)s)")

    saes = command("saes", _saes, "list and search the SAEs that SAELens knows; a release's name lists its own")
    saes.add_argument("words", nargs="*", metavar="WORD", help="words that release, model, id or hook contain")

    command("presets", _presets, "list the models that come with SAEs by one name, for fit --preset")

    command("demo", _demo, "do the main job on the embedded model: fit, select and evaluate the sentiment task")

    train = command("train-sae", _train_sae, "train SAEs on a model's residual stream, in SAELens' format")
    train.add_argument("text", nargs="+", type=Path, help="text files: .txt or .jsonl, may end in .gz")
    train.add_argument("--out", type=Path, required=True, help="folder for the SAEs and their card")
    train.add_argument("--model", default="SmolLM2-135M-Instruct")
    train.add_argument("--layers", type=_numbers, required=True, help="blocks whose output is learned, as 8,15,22")
    train.add_argument("--tokens", type=_positive, default=1_350_000)
    train.add_argument("--d-sae", type=_positive, default=2304, help="features per SAE (default: %(default)s)")
    train.add_argument("--k", type=_positive, default=32, help="features active at once (default: %(default)s)")
    train.add_argument("--epochs", type=_positive, default=2)
    train.add_argument("--seed", type=int, default=0)
    return parser


def _measured_on(command: argparse.ArgumentParser) -> None:
    command.add_argument("--task", action="append", help="task to measure on; repeat (default: the sets' own)")
    command.add_argument("--split", choices=("train", "validation", "test"), default="test")
    command.add_argument("--limit", type=_positive, help="at most so many samples of each task")


def _longest_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--longest",
        type=_share,
        default=DEFAULT_LONGEST,
        help="longest vector to try, as a share of the activation it is added to (default: %(default)s)",
    )


def _ranking_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--ranking",
        choices=RANKINGS,
        default=RANKINGS[0],
        help="rank by this (default: %(default)s, the method's own; the others are to compare with)",
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    """What makes a run: task, model, SAEs and settings."""
    parser.add_argument("--task", help="name of a task: sentiment, refusal, overrefusal, capitals, ...")
    parser.add_argument("--scorer", default="", help="for a task of your own (--data): how an answer is scored")
    parser.add_argument("--data", type=Path, help="file with prompt (and target) in place of the task's own items")
    parser.add_argument(
        "--judge",
        default="",
        help="score by a small model of the hub instead of by rules: rejection-judge, similarity-judge",
    )
    _pairing_options(parser)
    parser.add_argument("--limit", type=_positive, help="at most so many samples, over all splits")
    parser.add_argument("--max-new-tokens", type=_positive, help="tokens to generate (default: the task's)")
    parser.add_argument("--batch-size", type=_positive, help="prompts at a time (default: what fits in memory)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split of tasks that have none of their own")
    parser.add_argument("--pooling", choices=("max", "mean", "all"), default="max", help="how activations are pooled")
    parser.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="use the chat template (default: the task's)",
    )
    parser.add_argument("--system", default="", help="system prompt")
    parser.add_argument(
        "--shots", type=_count, default=0, metavar="N", help="show N train items with their answers before every prompt"
    )


def _pairing_options(parser: argparse.ArgumentParser) -> None:
    """Which model, and which SAEs of it."""
    parser.add_argument("--preset", metavar="NAME", help="a model and its SAEs by one name (see 'presets')")
    parser.add_argument("--model", help="hub id or folder (default: the preset's, or SmolLM2-135M-Instruct, embedded)")
    parser.add_argument(
        "--sae", action="append", metavar="SOURCE", help="folder or release/id; may be repeated (default: embedded)"
    )
    parser.add_argument("--layers", type=_numbers, help="only these layers, as 8,15,22")


def _fit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--floor", type=_positive, help="least training samples in which a ranked feature fired")
    parser.add_argument(
        "--permutations", type=_positive, default=200, help="shuffled outcomes, to see what chance reaches"
    )
    parser.add_argument("--top", type=_positive, default=10, help="features to print (default: %(default)s)")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers like 8,15,22") from None


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of scales like 0.5,1,2") from None
    if not all(map(math.isfinite, scales)):
        raise argparse.ArgumentTypeError(f"{text!r} holds a scale that is not a finite number")
    return scales


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0, like 0.06")
    return share


def _count(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


# --- output --------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Only what JSON knows: undefined numbers become null."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "item"):  # a NumPy number
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def _human(result: Any) -> str:
    """A result for reading: a table for rows, a line per field for the rest."""
    result = _plain(result)
    if isinstance(result, list):
        return _table(result)
    lines = []
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{key}:", _table(value)]
        elif isinstance(value, dict) and value and all(isinstance(one, dict) for one in value.values()):
            rows = [{key: name, **_scalars(one)} for name, one in value.items()]
            lines += ["", _table(rows)]
        elif isinstance(value, dict):
            lines += [f"{key}: " + ", ".join(f"{name} {_short(one)}" for name, one in value.items())]
        else:
            lines.append(f"{key}: {_short(value)}")
    return "\n".join(lines)


def _scalars(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if not isinstance(value, (dict, list))}


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "(none)"
    cells = [list(rows[0]), *([_short(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " to ".join(map(_short, value))
    return "-" if value is None else str(value)
