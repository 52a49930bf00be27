"""`select`, `edit`, `generate`, `export`: choosing a steering set, changing it, trying it, writing it for other programs."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments, choices, inputs, values
from corrsteer_core.cli.command import Command
from corrsteer_core.cli.endings import check_ending
from corrsteer_core.cli.printing import say

if TYPE_CHECKING:
    from corrsteer_core.runs.steering_set import SteeringSet

EDITED = " (edited)"


def _select_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    parser.add_argument("--strategy", required=True, choices=choices.strategies(), help=choices.strategy_words())
    parser.add_argument("--out", type=Path, help="write the set to this file")
    arguments.candidates(parser, "features per layer: A and P take 1, V tries 8")
    arguments.longest(parser)
    parser.add_argument(
        "--negative", action="store_true", help="features of negative r too, subtracted (the paper found that harmful)"
    )
    arguments.ranking(parser)
    parser.add_argument(
        "--objective",
        choices=choices.objectives(),
        help="what P and V choose by: the gain beyond the prior (default where the task has classes) or the rate",
    )


def _select(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    inputs.quiet_libraries()
    from corrsteer_core.method import demo, selecting
    from corrsteer_core.runs import strategies
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
        objective=options.objective,
        progress=report,
    )
    if options.out:
        save_set(chosen, options.out)
    result = json.loads(chosen.to_json())
    if options.strategy == "P":
        asked = (options.per_layer or 1, options.ranking, options.negative, options.longest, options.objective)
        seen = selecting.seen_by_p(options.run, *asked)
        result["seen"] = seen.drop(columns="run").to_dict("records")
    if not chosen.rows:
        say(f"{strategies.get_strategy(options.strategy).nothing} on the validation split; the set is empty")
    return result


def _predict(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    inputs.quiet_libraries()
    from corrsteer_core.method import prediction
    from corrsteer_core.runs import predictions

    facts = prediction.predict(options.run, progress=report)
    found = predictions.predicted_against_measured(options.run)
    predicted = predictions.needed_predictions(options.run)
    best = predicted.sort_values(predictions.PREDICTED, ascending=False, kind="stable").head(options.top)
    measured = {"features": len(found.points), "predicted": found.predicted, "r": found.r}
    return {"run": options.run, **facts, "rank_correlation_with_measured": measured, "top": best.to_dict("records")}


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    parser.add_argument("--top", type=values.positive, default=10, help="features to print (default: %(default)s)")


def _generate_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.steering_set(parser)
    parser.add_argument("--prompt", type=values.text, required=True)
    arguments.scale(parser)
    arguments.rows(parser)
    parser.add_argument("--max-new-tokens", type=values.positive, default=60)
    parser.add_argument("--temperature", type=values.temperature, default=0.0, help="0 takes the most probable token")
    parser.add_argument("--seed", type=values.seed, default=0)


def _generate(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    inputs.quiet_libraries()
    from corrsteer_core.engine.choosing import sampled
    from corrsteer_core.inspection import playground

    unsteered, steered = playground.side_by_side(
        _with_rows(options),
        options.prompt,
        scale=options.scale,
        max_new_tokens=options.max_new_tokens,
        choose=sampled(options.temperature, options.seed),
    )
    return {"unsteered": unsteered, "steered": steered}


def _with_rows(options: argparse.Namespace) -> SteeringSet:
    """The set of --set with the rows of --row in it. Raises CorrSteerError."""
    from corrsteer_core.runs.steering_set import load_set

    steering = load_set(options.set)
    for row in options.row:
        steering = steering.with_row(row)
    return steering


def _edit_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.steering_set(parser)
    arguments.rows(parser, required=True)
    parser.add_argument(
        "--name", dest="called", type=values.text, help="of the new set (default: the old one's, with (edited))"
    )
    parser.add_argument("--out", type=Path, required=True, help="write the new set to this file")
    arguments.force(parser, "replace the file if it is there already")


def _edit(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.runs.steering_set import save_set

    check_ending(options.out, "A steering set", ".json")
    if options.out.exists() and not options.force:
        raise CorrSteerError(f"{options.out} is there already; name another file, or add --force to replace it.")
    steering = _with_rows(options)
    named = replace(steering, name=options.called or f"{steering.name.removesuffix(EDITED)}{EDITED}")
    save_set(named, options.out)
    return [
        {"layer": row.layer, "feature": row.feature, "does": row.does if row.enabled else f"off ({row.does})"}
        for row in named.rows
    ]


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.steering_set(parser)
    parser.add_argument("--format", choices=choices.export_formats(), required=True)
    parser.add_argument("--out", type=Path, required=True, help=f"the file; {choices.files_beside()}")
    arguments.force(parser, "replace files that are there already")


def _export(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    inputs.quiet_libraries()
    from corrsteer_core.engine import exports
    from corrsteer_core.engine.export_formats import get_format
    from corrsteer_core.engine.steering import check_model, model_of
    from corrsteer_core.proof import evidence
    from corrsteer_core.runs.steering_set import load_set
    from corrsteer_core.saes import named_saes

    steering, out = load_set(options.set), options.out
    exports.check_expressible(steering, options.format)
    check_ending(out, f"An export as {options.format}", get_format(options.format).suffix)
    if not options.force:
        exports.refuse_existing(exports.files_of(options.format, out))
    if get_format(options.format).make is not None:
        model = model_of(steering, report.note)
        check_model(steering, model)
        saes = named_saes.saes_of(steering.active_saes, model)
        files = exports.exported(steering, options.format, out.stem, model, saes)
    else:
        known = evidence.kept_evidence(steering.run, steering) or evidence.carried_by(options.set, steering)
        files = {out.name: evidence.set_text(steering, known).encode()}
    paths = exports.write_new(out.parent, files, replace=options.force)
    return [{"file": str(path), "bytes": path.stat().st_size} for path in paths]


PREDICT = Command(
    "predict",
    "predict what steering with each feature would do, from one backward pass per training sample",
    _predict_arguments,
    _predict,
)
SELECT = Command("select", "choose a steering set, by correlation or by measured effect", _select_arguments, _select)
EDIT = Command(
    "edit",
    "give a set other rows: what is done with a feature (add, clamp, ablate, cap), and when",
    _edit_arguments,
    _edit,
)
GENERATE = Command("generate", "answer a prompt unsteered and steered", _generate_arguments, _generate)
EXPORT = Command(
    "export", "write a set for other programs: transformers, llama.cpp, your own", _export_arguments, _export
)
