"""`check-cache`, `backup`: whether what is kept is whole, and a copy of a run."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments
from corrsteer_core.cli.command import Command
from corrsteer_core.cli.endings import check_ending
from corrsteer_core.cli.printing import say


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repair", action="store_true", help="repair what can be, and put aside what cannot; nothing whole is touched"
    )


def _check(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.storage import checking

    found = checking.check_cache(repair=options.repair)
    wrong = [one for one in found if one.problem]
    for one in wrong:
        say(f"warning: {one.kind} {one.name}: {one.problem}" + (f" Done: {one.done}." if one.done else ""))
    left = [one for one in wrong if not one.done]
    if left:
        more = "" if options.repair else " add --repair to repair what can be."
        raise CorrSteerError(
            f"{len(left)} of {len(found)} things in the cache are not whole, see above;{more}".rstrip(";")
        )
    return [{"kind": one.kind, "name": one.name, "whole": one.whole, "done": one.done} for one in found]


def _backup_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="the copy (.duckdb)")
    arguments.force(parser, "replace a file that is there already")


def _backup(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    from corrsteer_core.storage import checking

    check_ending(options.file, "A backup", ".duckdb")
    made = asdict(checking.backup(options.run, options.file, replace=options.force))
    return {**made, "file": str(made["file"])}


CHECK_CACHE = Command(
    "check-cache", "say of every run, model, SAE, upload, set and job whether it is whole", _check_arguments, _check
)
BACKUP = Command("backup", "copy a run into a file, also while it is written", _backup_arguments, _backup)
