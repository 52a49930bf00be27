"""`python -m corrsteer_core` and `corrsteer`: the command line, which Ctrl-C ends with one line from its first moment on."""

import signal
import sys

CANCELLED = 130


def main() -> int:
    """Run the command line; returns its exit status."""
    try:
        from corrsteer_core.cli.main import (
            main as run,
        )  # loads for half a second, in which somebody may change their mind

        status = run()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done; Python's own end would answer with a traceback
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return CANCELLED
    return status


if __name__ == "__main__":
    sys.exit(main())
