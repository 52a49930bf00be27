"""A package that stands for the core in the process of a job: its command line is a script of a test's."""

from __future__ import annotations

import shutil
from pathlib import Path

from corrsteer_core.base.paths import PACKAGE


def pretended_core(folder: Path, script: str) -> Path:
    """The package's folder, made in `folder`: what a job's process needs, with `script` in place of the command line."""
    made = folder / "fake" / "corrsteer_core"
    made.mkdir(parents=True)
    (made / "__init__.py").touch()
    shutil.copytree(PACKAGE / "base", made / "base", ignore=shutil.ignore_patterns("__pycache__"))
    (made / "cli").mkdir()
    (made / "cli" / "__init__.py").touch()
    (made / "cli" / "job_process.py").write_bytes((PACKAGE / "cli" / "job_process.py").read_bytes())
    (made / "cli" / "main.py").write_text(script)
    return made
