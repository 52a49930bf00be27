"""`runs`, `features`, `convergence`, `effects`, `report`: what cached runs hold; no model is loaded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments, values
from corrsteer_core.cli.command import Command, no_arguments
from corrsteer_core.cli.endings import check_ending
from corrsteer_core.cli.printing import say

PREDICTED = "predicted_effect"
# Named again where predictions are read, which loads SciPy; a test holds the two equal.


def _runs(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.runs import run_facts

    found = run_facts.runs()
    for problem in found["problem"].dropna():
        say(f"warning: {problem}")
    return found[found["problem"].isna()].drop(columns="problem").to_dict("records")


def _features_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    parser.add_argument("--layer", type=int, help="only this layer")
    parser.add_argument("--top", type=values.positive, default=20, help="how many (default: %(default)s)")
    parser.add_argument(
        "--intervals", action="store_true", help="add 95%% bootstrap intervals of r and coefficient for these"
    )
    arguments.ranking(parser)


def _features(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.runs import reliability, run_facts, stored_run

    floor = int(stored_run.fit_summary(options.run)["floor"])
    layers = run_facts.facts(options.run).layers
    if options.layer is not None and options.layer not in layers:
        raise CorrSteerError(
            f"The run {options.run} has no SAE of layer {options.layer}; its layers are {', '.join(map(str, layers))}."
        )
    if options.ranking == PREDICTED:
        return _predicted(options)
    features = stored_run.features_of(options.run, options.layer)
    ranked = features[(features["support"] >= floor) & features["r"].notna()].drop(columns="run")
    top = _by_ranking(ranked, options).head(options.top).reset_index(drop=True)
    return (reliability.intervals(options.run, top) if options.intervals else top).to_dict("records")


def _predicted(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The features of highest predicted effect, those included that fired never or always."""
    from corrsteer_core.method import candidates
    from corrsteer_core.runs import predictions, reliability, stored_run

    predicted = predictions.needed_predictions(options.run)
    fitted = stored_run.features_of(options.run)[candidates.KNOWN]
    both = predicted.merge(fitted, on=["layer", "feature"], how="left")
    if options.layer is not None:
        both = both[both["layer"] == options.layer]
    both = both.assign(support=both["support"].fillna(0).astype(int), frequency=both["frequency"].fillna(0.0))
    top = both.sort_values(PREDICTED, ascending=False, kind="stable").head(options.top).reset_index(drop=True)
    return (reliability.intervals(options.run, top) if options.intervals else top).to_dict("records")


def _by_ranking(features: Any, options: argparse.Namespace) -> Any:
    """The features, the best by the ranking that was asked for first."""
    from corrsteer_core.method import candidates

    if options.ranking == candidates.DEFAULT_RANKING:
        return features
    scored = features.merge(candidates.scores(options.run, options.ranking), on=["layer", "feature"])
    return scored.sort_values("score", ascending=False, kind="stable")


def _convergence_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    parser.add_argument("--top", type=values.positive, default=10, help="how many features (default: %(default)s)")


def _convergence(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.runs import reliability

    return reliability.convergence(options.run, top=options.top).to_dict("records")


def _effects(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.runs import feature_lists

    rows = feature_lists.effects(options.run)
    if rows.empty:
        raise CorrSteerError(
            f"No candidate of {options.run} has been tried yet; run 'select {options.run} --strategy V' first."
        )
    return rows.to_dict("records")


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    parser.add_argument("--out", type=Path, required=True, help="the file (.html)")
    parser.add_argument(
        "--address",
        type=values.address,
        metavar="URL",
        help="where the app answers: the report then links to the run there, with a QR code if others can reach it",
    )
    arguments.force(parser, "replace a file that is there already")


def _report(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    from corrsteer_core.reporting.report import write

    check_ending(options.out, "A report", ".html", ".htm")
    path = write(options.run, options.out, address=options.address, replace=options.force)
    return {"file": str(path), "bytes": path.stat().st_size}


RUNS = Command("runs", "list the cached runs", no_arguments, _runs)
FEATURES = Command("features", "list a run's features, highest correlation first", _features_arguments, _features)
CONVERGENCE = Command(
    "convergence",
    "show which share of the top features fewer training samples would have found",
    _convergence_arguments,
    _convergence,
)
EFFECTS = Command(
    "effects", "list what steering with single features did on the validation split", arguments.run, _effects
)
REPORT = Command(
    "report", "write a run as one HTML file, for people who do not use the app", _report_arguments, _report
)
