"""What a steering set can be written as; `exports` writes it. Values only, so that they can be listed without torch."""

from __future__ import annotations

from typing import Literal

Format = Literal["json", "safetensors", "gguf", "python"]
SUFFIXES: dict[Format, str] = {"json": ".json", "safetensors": ".safetensors", "gguf": ".gguf", "python": ".py"}
