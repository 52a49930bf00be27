"""`fires`: which features are active in a text."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments, inputs, values
from corrsteer_core.cli.command import Command

if TYPE_CHECKING:
    from corrsteer_core.inspection.firing import Wanted

SORTS = ("value", "share", "r", "tokens")
# Named again where texts are read, which loads torch; a test holds the two equal.


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    parser.add_argument("text", metavar="TEXT", type=values.text, help="read as it is, with nothing around it")
    parser.add_argument(
        "--answer", action="store_true", help="TEXT is a prompt, put as the run's: read the model's answer to it too"
    )
    parser.add_argument(
        "--generation", action="store_true", help="with --answer: only the positions that a run looks at"
    )
    parser.add_argument("--without-first", action="store_true", help="leave out the very first token")
    parser.add_argument(
        "--without-everywhere", action="store_true", help="leave out features that fire at more than half of the tokens"
    )
    parser.add_argument("--layers", type=values.layers, default=(), help="only these layers, as 8,15,22")
    parser.add_argument("--ranked", action="store_true", help="only features whose r is known")
    parser.add_argument("--set", type=Path, help="only features of this steering set (JSON)")
    parser.add_argument(
        "--sort", choices=SORTS, default=SORTS[0],
        help="largest first; share is that of the largest value in the layer (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--top", type=values.positive, default=30, help="features to print (default: %(default)s)")


def _fires(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    if options.generation and not options.answer:
        raise CorrSteerError("--generation asks for positions of an answer, and there is none; add --answer.")
    inputs.quiet_libraries()
    from corrsteer_core.inspection import fired_features, firing
    from corrsteer_core.method import run_setup
    from corrsteer_core.models.prompts import answer_text

    wanted = _wanted(options)
    setup = run_setup.reopen(options.run)
    found = firing.read_for(options.run, options.text, setup.model, setup.saes, answer=options.answer, progress=report)
    rows = fired_features.table(options.run, found, wanted, ranked=options.ranked, sort=options.sort)
    shown = fired_features.named(found, rows.head(options.top), setup.model, setup.saes)
    answer = {"answer": answer_text(setup.model, found.text.answer)} if options.answer else {}
    columns = ["layer", "feature", "value", "share", "at", "tokens", "r", "effect", "meaning"]
    return {
        "run": options.run,
        **answer,
        "counted": fired_features.positions(found, wanted),
        "features": shown[columns].to_dict("records"),
        "more": len(rows) - len(shown),
    }


def _wanted(options: argparse.Namespace) -> Wanted:
    """What of the text the options ask for."""
    from corrsteer_core.inspection.firing import Wanted, Where
    from corrsteer_core.runs.steering_set import load_set

    among = None
    if options.set:
        among = frozenset((row.layer, row.feature) for row in load_set(options.set).rows)
    where: Where = "generation" if options.generation else "all"
    return Wanted(
        tuple(options.layers),
        where,
        first=not options.without_first,
        everywhere=not options.without_everywhere,
        among=among,
    )


FIRES = Command("fires", "show which features of a run fire on a text, the most active first", _arguments, _fires)
