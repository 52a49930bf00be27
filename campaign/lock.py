"""`python -m campaign.lock`: writes requirements.lock from requirements.txt, every package with the hashes of its files."""

from __future__ import annotations

import subprocess
import sys

from corrsteer_core.base import files
from corrsteer_core.base.paths import PACKAGE

ROOT = PACKAGE.parent
LOCK = ROOT / "requirements.lock"
HEAD = """\
# Every package of requirements.txt and what those need, each file with its hash: Linux on x86-64, Python 3.11 (with the
# CUDA libraries that PyTorch asks for there). Made by `make lock`; `make LOCKED=yes app` installs it.
"""
OPTIONS = [
    *("--generate-hashes", "--python-version", "3.11", "--python-platform", "x86_64-unknown-linux-gnu"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-header", "--quiet"),
]


def main() -> int:
    """Write it; returns uv's exit status."""
    command = [sys.executable, "-m", "uv", "pip", "compile", str(ROOT / "requirements.txt"), *OPTIONS]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        files.write_text(LOCK, HEAD + done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
