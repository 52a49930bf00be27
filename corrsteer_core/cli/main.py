"""The command line: the same words as the method's, results on standard output, progress on standard error."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from corrsteer_core.base import jobs
from corrsteer_core.base.errors import CorrSteerError, out_of_memory
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.base.paths import cache_dir
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli.options import parser
from corrsteer_core.cli.printing import human, plain

CANCELLED = 130
FAILED = 1
DISK = {
    errno.ENOSPC, errno.EDQUOT,  # no room
    errno.EACCES, errno.EPERM, errno.EROFS,  # no right to write
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST,  # a file in place of a folder, or the other way round
}  # fmt: skip
"""What the disk refuses that the user can mend; any other error of the system is a bug, or was said by who met it."""
SHOWN_NAME = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. No traceback reaches the user for anything they can mend."""
    options = parser().parse_args(arguments)
    report = Reporter(file=options.progress_file, quiet=options.quiet)
    if options.device:
        os.environ["CORRSTEER_DEVICE"] = options.device  # whatever loads a model looks there
    if options.dtype:
        os.environ["CORRSTEER_DTYPE"] = options.dtype
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
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{_longest_name(error)} is too long for the name of a file or folder; see that it is what you meant."
    kinds = {kind.__name__ for kind in type(error).__mro__}  # DuckDB's are not loaded for this
    if (isinstance(error, OSError) and error.errno in DISK) or "IOException" in kinds:
        return (
            f"The disk would not have it ({first_line(error)}); see that there is room and that it may be written "
            f"(results are kept in {cache_dir()}; $CORRSTEER_CACHE names another folder)."
        )
    if out_of_memory(error):
        return (
            f"The device has too little memory for this ({first_line(error)}); give shorter prompts or fewer tokens, or "
            f"name another --device."
        )
    return None


def _longest_name(error: OSError) -> str:
    """The part of a path that made it too long, as far as it can be shown."""
    longest = max(Path(str(error.filename or error.strerror)).parts, key=len)
    return repr(longest if len(longest) <= SHOWN_NAME else f"{longest[:SHOWN_NAME]}…")
