"""Keys and values of what was read, and which of them a query sees."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from corrsteer_core.models.loading import Model

ALL = -1  # owner of the keys that every variant sees


def masks(model: Model, queries: Tensor, keys: Tensor, own: Tensor | None = None) -> Tensor | dict[str, Tensor]:
    """What is added to attention: 0 where a query sees a key, the lowest number where not, in the model's form.

    `queries` (prompts, queries) and `keys` (prompts, keys) are positions, -1 for padding; `own` (prompts,
    queries, keys) says which keys are not another variant's. Sliding windows are counted in positions too,
    since neither padding nor other variants may take room in them.
    """
    gap = queries[:, :, None] - keys[:, None]  # (prompts, queries, keys)
    seen = (keys[:, None] >= 0) & (gap >= 0)
    if own is not None:
        seen = seen & own

    def additive(visible: Tensor) -> Tensor:
        lowest = torch.finfo(model.dtype).min
        return torch.zeros(visible.shape, dtype=model.dtype, device=gap.device).masked_fill_(~visible, lowest)[:, None]

    window = getattr(model.text_config, "sliding_window", None)
    if window is None:
        return additive(seen)
    near = additive(seen & (gap < window))
    if "full_attention" in (getattr(model.text_config, "layer_types", None) or ()):
        return {"full_attention": additive(seen), "sliding_attention": near}
    return near


def empty_cache() -> Any:
    """A cache that keeps all keys of every layer: what lies outside a sliding window is the mask's business."""
    from transformers import DynamicCache

    return DynamicCache()


def repeated(cache: Any, times: int) -> Any:
    """A cache of one row seen as several, or another of the same rows: layers replace tensors, never write into them."""
    new = copy.copy(cache)
    new.layers = [copy.copy(layer) for layer in cache.layers]
    if times > 1:
        for layer in new.layers:
            layer.keys = layer.keys.expand(times, -1, -1, -1)
            layer.values = layer.values.expand(times, -1, -1, -1)
    return new


def select_rows(cache: Any, rows: Tensor) -> None:
    """Leave some rows in a cache, or rows several times; under a device map its layers lie on several devices."""
    for layer in cache.layers:
        if layer.is_initialized:
            layer.batch_select_indices(rows.to(layer.keys.device))
