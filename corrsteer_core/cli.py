"""The command line: the same words as the method's, results on standard output, progress on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from corrsteer_core.errors import CorrSteerError
from corrsteer_core.hub_errors import first_line
from corrsteer_core import jobs
from corrsteer_core.options import parser
from corrsteer_core.output import human, plain
from corrsteer_core.paths import cache_dir
from corrsteer_core.progress import Reporter

CANCELLED = 130
FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. No traceback reaches the user for anything they can mend."""
    options = parser().parse_args(arguments)
    report = Reporter(file=options.progress_file, quiet=options.quiet)
    if options.device:
        os.environ["CORRSTEER_DEVICE"] = options.device  # whatever loads a model looks there
    try:
        result = options.command(options, report)
        report.finish()
        print(json.dumps(plain(result), allow_nan=False) if options.json else human(result), flush=True)
    except KeyboardInterrupt:
        report.finish()
        print(f"stopped; run the same command again to go on. {jobs.if_stopped(options.name)}", file=sys.stderr)
        return CANCELLED
    except BrokenPipeError:  # `| head` closed our output: nobody is left to tell, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        report.finish()
        if (said := _sentence(error)) is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        return FAILED
    return 0


def _sentence(error: Exception) -> str | None:
    """What to say of an error that the user can mend; None for a bug."""
    if isinstance(error, CorrSteerError):
        return str(error)
    kind = type(error).__name__  # of DuckDB's and PyTorch's errors, which are not loaded for this
    if isinstance(error, OSError) or kind == "IOException":  # no room, no right to write, a file in place of a folder
        return (
            f"The disk would not have it ({first_line(error)}); see that there is room and that it may be written "
            f"(results are kept in {cache_dir()}; $CORRSTEER_CACHE names another folder)."
        )
    if kind == "OutOfMemoryError":
        return (
            f"The device has too little memory for this ({first_line(error)}); give shorter prompts or fewer tokens, or "
            f"name another --device."
        )
    return None
