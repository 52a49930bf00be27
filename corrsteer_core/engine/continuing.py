"""How likely given outputs are after a prefix, in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corrsteer_core.engine.generation import Prefix
from corrsteer_core.engine.keys_and_values import masks, repeated, select_rows
from corrsteer_core.models.loading import Model


def continued(model: Model, prefix: Prefix, rows: Sequence[int], outputs: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities (rows, longest output), float32, of given outputs after a prefix, unsteered, in one pass.

    `rows` names the prompt of each output. What lies beyond the end of a shorter output means nothing.
    """
    logits = forced(model, prefix, rows, outputs)
    ids = _padded(outputs).to(logits.device)
    return logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]


def forced(model: Model, prefix: Prefix, rows: Sequence[int], outputs: Sequence[Sequence[int]]) -> Tensor:
    """Logits (rows, longest output, vocabulary) at the generation positions of given outputs, none empty, in one pass.

    Read are the last prompt token and every token of an output but the last, so hooks see generation positions alone.
    """
    chosen = torch.tensor(list(rows), device=prefix.last.device)
    ids = _padded(outputs).to(prefix.last.device)
    cache = repeated(prefix.cache, 1)
    select_rows(cache, chosen)
    places = prefix.lengths[chosen][:, None] - 1 + torch.arange(ids.shape[1], device=chosen.device)
    # Later tokens are hidden from earlier ones by their positions, so the shorter outputs need no more.
    return model.net(
        input_ids=torch.cat([prefix.last[chosen][:, None], ids[:, :-1]], 1),
        attention_mask=masks(model, places, torch.cat([prefix.places[chosen], places], 1)),
        position_ids=places,
        past_key_values=cache,
        use_cache=True,
    ).logits


def _padded(outputs: Sequence[Sequence[int]]) -> Tensor:
    """Ids (outputs, longest), zeros after the end of a shorter one."""
    ids = torch.zeros(len(outputs), max(map(len, outputs)), dtype=torch.long)
    for row, output in enumerate(outputs):
        ids[row, : len(output)] = torch.tensor(list(output), dtype=torch.long)
    return ids
