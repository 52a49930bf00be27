"""`verify`: whether a set does again what its file says that it did."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments, inputs
from corrsteer_core.cli.command import Command
from corrsteer_core.cli.printing import show

if TYPE_CHECKING:
    from corrsteer_core.proof.evidence import Evidence
    from corrsteer_core.runs.steering_set import SteeringSet
    from corrsteer_core.tasks import Task


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", metavar="SET", type=Path, help="steering set (JSON) that carries evidence")
    arguments.own_task(parser)


def _verify(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    """Prints what was found before it raises, where the evidence does not hold: the exit status is then 1."""
    inputs.quiet_libraries()
    from corrsteer_core.proof.evidence import read
    from corrsteer_core.proof.replay import replay

    steering, evidence = read(options.set)
    task = _task(options, steering, evidence)
    found = replay(steering, evidence, task, data=options.data, progress=report)
    result = {
        "set": steering.name,
        "content": steering.content,
        "task": evidence.task,
        "split": evidence.split,
        "agrees": found.agrees,
        "differing": found.differing,
        "compared": [asdict(row) for row in found.rows],
        "verdict_then": evidence.sentence,
        "said": found.sentence,
    }
    if not found.agrees:
        report.finish()
        show(result, as_json=options.json)
        raise CorrSteerError(found.sentence)
    return result


def _task(options: argparse.Namespace, steering: SteeringSet, evidence: Evidence) -> Task:
    """The task that the evidence is of: the set's own, a named one, or one of the user's own file."""
    if options.scorer:
        options.task, options.max_new_tokens = None, None
        return inputs.task_of(options)
    return inputs.task_named(evidence.task, [steering])


VERIFY = Command(
    "verify", "measure a set again as its file says it was measured, and say what agrees", _arguments, _verify
)
