"""The command line: the same words as the method's, results on standard output, progress on standard error."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from corrsteer_core.base import jobs, terminal
from corrsteer_core.base.errors import CorrSteerError, out_of_memory
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.base.paths import cache_dir
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments as shared
from corrsteer_core.cli import inputs
from corrsteer_core.cli.interrupting import queries_stop
from corrsteer_core.cli.printing import say, show
from corrsteer_core.cli.table import COMMANDS

CANCELLED = 130
FAILED = 1
DISK = {
    errno.ENOSPC, errno.EDQUOT,  # no room
    errno.EACCES, errno.EPERM, errno.EROFS,  # no right to write
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST,  # a file in place of a folder, or the other way round
}  # fmt: skip
"""What the disk refuses that the user can fix; any other error of the system is a bug, or has its own sentence already."""
SHOWN_NAME = 60


class Parser(argparse.ArgumentParser):
    """argparse's, with errors that are short and do nothing to the terminal, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        super().error(terminal.message(message))


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; with `only`, one command's arguments alone are added, and its tables read."""
    script = Path(sys.argv[0]).stem == "corrsteer"
    made: argparse.ArgumentParser = Parser(
        prog="corrsteer" if script else "python -m corrsteer_core",
        description="Find the SAE features that go with success on a task, and steer a language model with them.",
    )
    added = made.add_subparsers(required=True, metavar="COMMAND", dest="name")
    for command in COMMANDS.values():
        one = added.add_parser(command.name, help=command.help, description=command.help, parents=[shared.common()])
        if only in (None, command.name):
            command.add_arguments(one)
    return made


def main(arguments: Sequence[str] | None = None, failed: Callable[[BaseException], None] = lambda error: None) -> int:
    """Run one command; returns the exit status. No traceback reaches the user for anything they can fix.

    `failed` is called with the error that the command ended with, if it did.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(words)
    except BrokenPipeError:  # `| head` closed our output: nobody is left to read, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:
        if _interrupted(error):
            left = jobs.if_stopped(words[0]) if words and words[0] in COMMANDS else ""
            say(f"stopped; run the same command again to go on. {left}".rstrip())
            return CANCELLED
        failed(error)
        sentence = _sentence(error)
        if sentence is None:
            raise
        say(f"error: {sentence}")
        return FAILED
    return 0


def _run(words: list[str]) -> None:
    asked = next((word for word in words if word in COMMANDS), "")
    options = parser(asked).parse_args(words)
    report = Reporter(file=options.progress_file, quiet=options.quiet)
    for name in ("device", "dtype", "quantize"):  # whatever loads a model looks there
        if asked_for := getattr(options, name):
            os.environ[f"CORRSTEER_{name.upper()}"] = asked_for
    try:
        with queries_stop(), inputs.workers(options):
            result = COMMANDS[options.name].run(options, report)
    finally:
        report.finish()
    show(result, as_json=options.json)


def _interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error: DuckDB stops a query with an error of its own, and libraries wrap what they catch."""
    return any(
        isinstance(one, KeyboardInterrupt)
        or type(one).__name__ == "InterruptException"  # DuckDB is not loaded for this
        or (isinstance(one, RuntimeError) and str(one) == "Query interrupted")
        for one in _with_causes(error)
    )


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _sentence(error: BaseException) -> str | None:
    """What to say of an error that the user can fix; None for a bug."""
    if isinstance(error, CorrSteerError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{_longest_name(error)} is too long for the name of a file or folder; check that it is what you meant."
    kinds = {kind.__name__ for kind in type(error).__mro__}  # DuckDB's are not loaded for this
    if (isinstance(error, OSError) and error.errno in DISK) or "IOException" in kinds:
        return (
            f"Could not write to disk or read from it ({first_line(error)}); check that there is free space and that "
            f"this user may write there (results are kept in {cache_dir()}; $CORRSTEER_CACHE names another folder)."
        )
    if out_of_memory(error):
        return (
            f"The device has too little memory for this ({first_line(error)}); give shorter prompts or fewer tokens, or "
            f"name another --device."
        )
    return None


PASSING = {
    "ConnectionError", "ConnectError", "Timeout", "TimeoutException", "TimeoutError",  # the network; another who writes
    "LocalEntryNotFoundError", "OfflineModeIsEnabled",  # the hub cannot be reached
    "IOException", "ChildProcessError",
}  # fmt: skip
"""Kinds of errors, libraries' own among them, that another time need not meet."""


def may_pass(error: BaseException) -> bool:
    """Whether the same command may go well another time: not where a sentence says what is wrong with what was asked for."""
    if isinstance(error, SystemExit):  # argparse's way of refusing
        return False
    if not isinstance(error, CorrSteerError):
        return True
    return any(_passing(one) for one in _with_causes(error))


def _passing(error: BaseException) -> bool:
    """Network, disk, memory, another process: what is not in what was asked for."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    on_disk = isinstance(error, OSError) and error.errno in DISK
    return on_disk or out_of_memory(error) or bool(kinds & PASSING)


def _longest_name(error: OSError) -> str:
    """The part of a path that made it too long, as far as it can be shown."""
    longest = max(Path(str(error.filename or error.strerror)).parts, key=len)
    return repr(longest if len(longest) <= SHOWN_NAME else f"{longest[:SHOWN_NAME]}…")
