"""`python -m corrsteer_core.cli.job_process FOLDER`: the process of a job runs its command and records how it ended."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from corrsteer_core.base import job_queue, parent
from corrsteer_core.base.files import not_written, write_text
from corrsteer_core.cli import main


def run(folder: Path) -> int:
    """Run the command that a job's folder asks for, when it is its turn, and leave its exit status there."""
    arguments = json.loads((folder / "job.json").read_text(encoding="utf-8"))["arguments"]
    status, again = 1, True

    def failed(error: BaseException) -> None:
        nonlocal again
        again = main.may_pass(error)

    try:
        if (folder / "cancelled").exists():  # asked before we could hear it, while Python itself began
            raise KeyboardInterrupt
        job_queue.await_turn(folder)
        status = main.main([*arguments, "--progress-file", str(folder / "progress.json")], failed)
    except SystemExit as error:  # argparse's way of refusing arguments
        failed(error)
        status = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        status = main.CANCELLED
    finally:
        try:
            write_text(folder / "exit", json.dumps({"status": status, "again": again}))
        except OSError as error:  # whoever looks finds the process gone and this line in its log
            print(f"error: {not_written('How the job ended', folder, error)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    # Started from a background shell, SIGINT would be ignored, and cancelling with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    job = Path(sys.argv[1])
    parent.end_with_it(signal.SIGINT, told=(job / "cancelled").touch)
    sys.exit(run(job))
