"""Where things lie that tests read."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("CORRSTEER_DATA") or ROOT.parent / "shared" / "data")
"""Folder with the published benchmarks' files; tests that read them skip where they are not there."""
