"""Models for the API: loaded on request, and found again by their weights while somebody still holds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED

if TYPE_CHECKING:
    from corrsteer_core.models.loading import Model

_in_memory: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""Models by fingerprint. Without it, every call that names no model would hold a second copy of the weights."""


def load_model(name: str | Path = EMBEDDED, *, dtype: Any = None, device: str | None = None) -> Model:
    """A model with its tokenizer: the embedded one, a hub id, or a folder with a transformers model.

    `dtype` is one of torch's or its name ("float32"); without it, bfloat16 where the hardware multiplies it, else
    float32. `device` is "auto" (all GPUs together), "cpu", "cuda", "cuda:1" or "mps"; without it, the best there is.
    `.net` is the transformers model, `.tokenizer` its tokenizer, which pads on the left.
    Raises CorrSteerError when it cannot be found, is not whole, or is not a causal model that transformers knows.
    """
    from corrsteer_core.models import loading

    return held(loading.load_model(str(name), dtype=_dtype(dtype), device=device))


def held(model: Model) -> Model:
    """The model, remembered for as long as somebody holds it."""
    _in_memory[model.fingerprint] = model
    return model


def in_memory(fingerprint: str) -> Model | None:
    """The model of a run or set, if somebody still holds it; None leaves it to be loaded by its name."""
    return _in_memory.get(fingerprint)


def _dtype(asked: Any) -> Any:
    import torch

    found = getattr(torch, asked, None) if isinstance(asked, str) else asked
    if (found is not None and not isinstance(found, torch.dtype)) or (asked is not None and found is None):
        raise CorrSteerError(f"There is no dtype {asked!r}; say float32, bfloat16 or float16.")
    return found
