"""The command line: the same words as the method's, results on standard output, progress on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from corrsteer_core.errors import CorrSteerError
from corrsteer_core.options import parser
from corrsteer_core.output import human, plain
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
