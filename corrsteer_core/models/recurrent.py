"""Models some of whose layers keep a state of each text (gated delta net and its kin) where others keep keys and values.

A state says what was read so far in one fixed size, so variants of a prompt cannot share it as they share keys: each needs a
row of its own. What a token adds to it cannot be taken away, so padding may stand before a text alone, where the state is
still nothing. `transformers.cache_utils` is imported here: import this module where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, LinearAttentionLayer

from corrsteer_core.models.attention import additive
from corrsteer_core.models.hooks import Action, Site, hooked


class KeptStates(LinearAttentionLayer):
    """A layer's convolution and recurrent states, one of each a row.

    States are written into in places (some architectures' fast kernels write into both), so a copy has its own. Here the
    recurrent one is replaced at every pass, so that gradients can go back through it.
    """

    def __copy__(self) -> KeptStates:
        new = self.__class__.__new__(self.__class__)
        for name, value in vars(self).items():
            setattr(new, name, dict(value) if isinstance(value, dict) else value)  # what each state is has its own dict
        for states in (new.conv_states, new.recurrent_states):
            states.update({nth: kept.clone() for nth, kept in states.items() if kept is not None})
        return new

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **_: Any) -> Tensor:
        """Keep a new state."""
        self.recurrent_states[state_idx] = recurrent_states
        self.is_recurrent_states_initialized[state_idx] = True
        return recurrent_states

    def batch_select_indices(self, indices: Tensor) -> None:
        """Leave some rows, or rows several times."""
        for states in (self.conv_states, self.recurrent_states):
            for nth, kept in states.items():
                states[nth] = None if kept is None else kept.index_select(0, indices.to(kept.device))


def empty_cache(config: Any) -> Any:
    """A cache for a model of this (text) configuration: keys and values of some layers, states of the others."""
    cache = DynamicCache(config=config)
    cache.layers = [
        KeptStates(layer.number_of_states) if type(layer) is LinearAttentionLayer else layer for layer in cache.layers
    ]
    return cache


def read_in_parts(net: Any, blocks: nn.ModuleList, ids: Tensor) -> dict[int, Tensor]:
    """What blocks make of a text (tokens,), (1, tokens, d) each, read as `engine.generation` reads texts.

    It stands behind padding, beside a text twice as long; its last tokens are read from the states of those before, two at
    once and one alone, beside a copy of these states that goes on otherwise.
    """
    count = len(ids)
    texts = torch.stack([torch.cat([ids.flip(0), ids]), torch.cat([ids, ids.flip(0)])])
    places = torch.arange(2 * count, device=ids.device).repeat(2, 1)
    places[0] = (places[0] - count).clamp_min(-1)
    parts: dict[int, list[Tensor]] = {layer: [] for layer in range(len(blocks))}

    def reading(layer: int) -> Action:
        return lambda activation: parts[layer].append(activation[:1].float().cpu().clone())

    sites: dict[Site, Action] = {Site(block, "output"): reading(layer) for layer, block in enumerate(blocks)}
    cache = empty_cache(net.config.get_text_config())
    with hooked(sites):
        _read(net, cache, texts, places, (0, 2 * count - 3))
        rows = torch.tensor([0, 1, 0], device=ids.device)
        for layer in cache.layers:
            layer.batch_select_indices(rows)
        texts, places = texts[rows], places[rows]
        texts[2, -3:] = ids[:3]
        _read(net, cache, texts, places, (2 * count - 3, 2 * count - 1))
        _read(net, cache, texts, places, (2 * count - 1, 2 * count))
    return {layer: torch.cat(some, 1)[:, count:] for layer, some in parts.items()}


def _read(net: Any, cache: Any, texts: Tensor, places: Tensor, part: Sequence[int]) -> None:
    """Read a part of texts (rows, tokens), whose keys and states before it are in the cache; a place of -1 is padding."""
    start, end = part
    queries, keys = places[:, start:end], places[:, :end]
    visible = (keys[:, None] >= 0) & (keys[:, None] <= queries[:, :, None])
    mask = additive(visible, net.dtype)
    net.base_model(
        input_ids=texts[:, start:end],
        attention_mask={"full_attention": mask, "linear_attention": (queries >= 0).long() if end - start > 1 else None},
        position_ids=queries.clamp_min(0),
        past_key_values=cache,
        use_cache=True,
    )
