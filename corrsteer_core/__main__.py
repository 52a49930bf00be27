"""`python -m corrsteer_core`: the command line."""

import sys

from corrsteer_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
