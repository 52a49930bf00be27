"""`evaluate`, `sweep`, `transfer`, `baseline`: what steering does to the rate of success."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments, choices, inputs, values
from corrsteer_core.cli.command import Command
from corrsteer_core.cli.printing import say
from corrsteer_core.runs.against import CONTROLS, MATCHED, Against, kinds_named

if TYPE_CHECKING:
    from corrsteer_core.runs.steering_set import SteeringSet
    from corrsteer_core.tasks import Task


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.steering_set(parser)
    parser.add_argument("--task", help="name of a task (default: the set's own)")
    arguments.own_task(parser)
    arguments.split(parser)
    arguments.scale(parser)
    parser.add_argument("--limit", type=values.positive, help="most samples to measure")
    parser.add_argument("--max-new-tokens", type=values.positive)
    parser.add_argument(
        "--balance",
        type=values.balance,
        metavar="80/20",
        help="leave out samples until the first class has this share and all others the rest; kept beside the plain measurement",
    )
    parser.add_argument(
        "--seed", type=values.seed, default=0, help="of the random sets, and of which samples --balance leaves out"
    )
    parser.add_argument(
        "--controls",
        type=values.count,
        metavar="N",
        help=f"random sets of like size to compare with (default: {CONTROLS}, or none where the set's run is not cached)",
    )
    parser.add_argument(
        "--matched",
        type=values.count,
        metavar="N",
        help=f"for a set that P or V chose: compare with N sets chosen alike among random features (default: {MATCHED} with controls)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the set here with what was measured as evidence (see verify)"
    )
    _rival_arguments(parser)


def _rival_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against",
        type=values.some_of(choices.rivals()),
        nargs="?",
        const=("all",),
        default=(),
        metavar="KINDS",
        help=f"compare with what would be tried first, some of these or all (the default): {choices.rival_words()}",
    )
    parser.add_argument(
        "--against-system",
        type=values.text,
        action="append",
        default=[],
        metavar="TEXT",
        help="compare with a prompt that begins with this text; repeat for several",
    )
    parser.add_argument(
        "--against-shots",
        type=values.shots_or_file,
        metavar="N or FILE",
        help="compare with a prompt of N examples of the training split, or of those in a file (prompt and answer)",
    )


def _against(options: argparse.Namespace) -> Against:
    shots = options.against_shots
    return Against(
        kinds_named(options.against),
        tuple(options.against_system),
        shots if isinstance(shots, int) else 0,
        shots if isinstance(shots, Path) else None,
    )


def _evaluate(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    inputs.quiet_libraries()
    from corrsteer_core.evaluation.exam import Balance
    from corrsteer_core.method.evaluating import evaluate
    from corrsteer_core.proof import evidence
    from corrsteer_core.proof.evidence import save_set
    from corrsteer_core.reporting.verdict import verdict
    from corrsteer_core.runs.steering_set import load_set

    steering = load_set(options.set)
    named = [options.task] if options.task is not None else None
    found = evaluate(
        steering,
        inputs.task_of(options) if options.scorer else inputs.with_columns(_tasks_for([steering], named)[0], options),
        split=options.split,
        data=options.data,
        scale=options.scale,
        limit=options.limit,
        max_new_tokens=options.max_new_tokens,
        balance=None if options.balance is None else Balance(options.balance, options.seed),
        seed=options.seed,
        control_count=options.controls,
        matched=options.matched,
        against=_against(options),
        progress=report,
    )
    summary = found.summary()
    if options.out:
        at_scale = replace(steering, scale=found.scale)
        save_set(at_scale, options.out, evidence.of_measurement(at_scale, summary, found.samples))
    return {**summary, "verdict": asdict(verdict(summary))}


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.steering_set(parser)
    parser.add_argument(
        "--scales", type=values.scales, default=(0.5, 1.0, 1.5, 2.0), help="as 0.5,1,2 (default: 0.5,1,1.5,2)"
    )
    arguments.measured_on(parser)


def _sweep(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    inputs.quiet_libraries()
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


def _transfer_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.steering_set(parser, several=True)
    arguments.measured_on(parser)


def _transfer(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    inputs.quiet_libraries()
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
    names = names or sorted({one.task for one in sets if one.task})
    if not names:
        raise CorrSteerError("No set says which task it was fitted on; name the tasks to measure on with --task.")
    return [inputs.task_named(name, sets) for name in names]


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


def _baseline_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    arguments.split(parser)
    arguments.longest(parser)


def _baseline(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    inputs.quiet_libraries()
    from corrsteer_core.method import difference_baseline, run_setup

    found = difference_baseline.baseline(
        run_setup.reopen(options.run), split=options.split, longest=options.longest, progress=report
    )
    if found["measured"] is None:
        say("no difference vector's effect is beyond noise on the validation split")
    return {
        "chosen": found["chosen"],
        "measured": found["measured"],
        "tried": found["tried"].to_dict("records"),
    }


EVALUATE = Command(
    "evaluate", "measure a set against the unsteered model on the same samples", _evaluate_arguments, _evaluate
)
SWEEP = Command("sweep", "measure a set at several scales, on its own task and on others", _sweep_arguments, _sweep)
TRANSFER = Command("transfer", "measure several sets on several tasks, as a matrix", _transfer_arguments, _transfer)
BASELINE = Command(
    "baseline",
    "compare with steering without SAE: the difference of activations of right and wrong answers",
    _baseline_arguments,
    _baseline,
)
