"""Keys and values (and states) of what was read, and which of them a query sees."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from corrsteer_core.models.architectures import is_recurrent
from corrsteer_core.models.attention import additive
from corrsteer_core.models.loading import Model

ALL = -1  # owner of the keys that every variant sees
Masks = Tensor | dict[str, Tensor | None]
"""One for all layers, or by the kind of layer."""


def masks(model: Model, queries: Tensor, keys: Tensor, own: Tensor | None = None) -> Masks:
    """What is added to attention: 0 where a query sees a key, the lowest number where not, in the model's form.

    `queries` (prompts, queries) and `keys` (prompts, keys) are positions, -1 for padding; `own` (prompts,
    queries, keys) says which keys are not another variant's, while tokens are decoded, none of them padding. Sliding
    windows are counted in positions too, since neither padding nor other variants may take room in them. Layers that keep
    a state are given which queries are padding, None where none is.
    """
    gap = queries[:, :, None] - keys[:, None]  # (prompts, queries, keys)
    seen = (keys[:, None] >= 0) & (gap >= 0)
    if own is not None:
        seen = seen & own

    config = model.text_config
    if is_recurrent(config):
        real = None if own is not None else (queries >= 0).long()
        return {"full_attention": additive(seen, model.dtype), "linear_attention": real}
    window = getattr(config, "sliding_window", None)
    if window is None:
        return additive(seen, model.dtype)
    near = additive(seen & (gap < window), model.dtype)
    if "full_attention" in (getattr(config, "layer_types", None) or ()):
        return {"full_attention": additive(seen, model.dtype), "sliding_attention": near}
    return near


def empty_cache(model: Model) -> Any:
    """A cache that keeps all keys of every layer: what lies outside a sliding window is the mask's business."""
    if model.recurrent:
        from corrsteer_core.models import recurrent

        return recurrent.empty_cache(model.text_config)
    from transformers import DynamicCache

    return DynamicCache()


def repeated(cache: Any, times: int) -> Any:
    """A cache of one row seen as several, or another of the same rows: layers replace tensors, never write into them.

    Those that keep a state do in places, and see to their copies; their rows are chosen (`select_rows`), not seen as several.
    """
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
        if not hasattr(layer, "keys"):  # it keeps states, which know where they lie
            layer.batch_select_indices(rows)
        elif layer.is_initialized:
            layer.batch_select_indices(rows.to(layer.keys.device))
