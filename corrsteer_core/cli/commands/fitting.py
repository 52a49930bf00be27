"""`fit`, `study`, `refit`: from a task, a model and its SAEs to ranked features."""

from __future__ import annotations

import argparse
from typing import Any

from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments, choices, inputs, values
from corrsteer_core.cli.command import Command
from corrsteer_core.runs.against import CONTROLS


def _fit_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run_settings(parser)
    arguments.fitting(parser)
    parser.add_argument(
        "--describe", type=values.count, default=0, metavar="N",
        help="then describe the N foremost features: a guess of our own (see 'describe')",
    )  # fmt: skip


def _fit(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    inputs.quiet_libraries()
    from corrsteer_core.inspection import feature_profile
    from corrsteer_core.method import collecting, demo
    from corrsteer_core.runs.fit import FitSettings

    settings = FitSettings(options.floor, options.permutations)  # if refused, then before anything is collected
    setup = inputs.set_up(options, report)
    report.weights = dict((*demo.FIT, demo.DESCRIBE) if options.describe else demo.FIT)
    collecting.collect(setup, batch_size=options.batch_size, progress=report)
    collecting.refit(setup.run, settings, report)
    if options.describe:
        feature_profile.describe(setup.run, top=options.describe, model=setup.model, saes=setup.saes, progress=report)
    return _fitted(setup.run, options.top)


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run_settings(parser)
    strategies = choices.strategies()
    parser.add_argument(
        "--strategies",
        type=values.some_of(strategies),
        default=",".join(strategies),
        help="sets to choose (default: %(default)s)",
    )
    parser.add_argument(
        "--rankings",
        type=values.some_of(choices.rankings()),
        default=(),
        help=f"also set A by these other rankings: {','.join(choices.rankings()[1:])}",
    )
    parser.add_argument(
        "--controls", type=values.count, default=CONTROLS, metavar="N", help="random sets each (default: %(default)s)"
    )
    arguments.candidates(parser, "features that V tries in each layer (default: 8)")
    parser.add_argument(
        "--baseline", action=argparse.BooleanOptionalAction, default=True, help="also steer without SAE, to compare"
    )
    arguments.longest(parser)


def _study(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    inputs.quiet_libraries()
    from corrsteer_core.method.study import study
    from corrsteer_core.runs import strategies

    return study(
        inputs.set_up(options, report),
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


def _refit_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    arguments.fitting(parser)


def _refit(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
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
        "repeats": ranking_words.of_repeats(run_facts.facts(run).config),
        "constant": bool(summary["constant"]),
        "chance": chance,
        "ranking": ranking_words.of_ranking(summary, chance).sentence,
        "top": _ranked(run, top),
    }


def _ranked(run: str, top: int) -> list[dict[str, Any]]:
    """The features of highest r, of those that fired often enough to be ranked."""
    from corrsteer_core.runs import stored_run

    floor = int(stored_run.fit_summary(run)["floor"])
    features = stored_run.features_of(run)
    ranked = features[(features["support"] >= floor) & features["r"].notna()]
    return ranked.drop(columns="run").head(top).to_dict("records")


FIT = Command("fit", "run a model on a task, read its features while it answers, and rank them", _fit_arguments, _fit)
STUDY = Command(
    "study",
    "the whole method on one task: fit, every strategy, controls and the difference of activations",
    _study_arguments,
    _study,
)
REFIT = Command("refit", "fit a collected run again, from the cache alone, without the model", _refit_arguments, _refit)
