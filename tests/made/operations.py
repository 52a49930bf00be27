"""What rows of a set do, worked out once more: plain PyTorch hooks, one text, one position and one row at a time, no cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from corrsteer_core.models.loading import Model
from corrsteer_core.runs.sets.rows import SteeringRow
from corrsteer_core.saes.sae import Sae


def fired(sae: Sae, x: Tensor) -> Tensor:
    """(d_sae,) of one activation (d,), by the weights of a ReLU SAE."""
    return torch.relu((x - sae.net.b_dec) @ sae.net.W_enc + sae.net.b_enc)


def changed(x: Tensor, sae: Sae, rows: Sequence[SteeringRow], z: dict[int, Tensor], index: int, scale: float) -> Tensor:
    """One activation (d,) at generated token `index` as the rows of its layer leave it; `z` are features by layer."""
    new, taken = x.clone(), []
    for row in rows:
        condition = row.while_fires
        if index < row.from_token or (condition and not z[condition.layer][condition.feature] > condition.above):
            continue
        direction, now = sae.net.W_dec[row.feature], float(z[row.layer][row.feature])
        if row.operation == "add":
            new += scale * row.coefficient * direction
        elif row.operation == "clamp":
            new += (row.coefficient - now) * direction
        elif row.operation == "cap":
            new += (min(now, row.coefficient) - now) * direction
        else:
            taken.append(direction)
    if taken:
        spanned = torch.stack(taken, 1)  # (d, directions)
        new -= spanned @ torch.linalg.lstsq(spanned, x[:, None]).solution[:, 0]
    return new


@contextmanager
def by_hand(model: Model, saes: Sequence[Sae], rows: Sequence[SteeringRow], first: int, scale: float) -> Iterator[None]:
    """Steer whole passes over one text from position `first` on; the SAEs must read the outputs of blocks."""
    z: dict[int, dict[int, Tensor]] = {}

    def hook(sae: Sae):
        def after(_module, _inputs, output):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            for place in range(first, hidden.shape[1]):
                x = hidden[0, place].clone()
                z.setdefault(place, {})[sae.layer] = fired(sae, x)
                own = [row for row in rows if row.layer == sae.layer and row.enabled]
                hidden[0, place] = changed(x, sae, own, z[place], place - first, scale)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return after

    handles = [model.blocks[sae.layer].register_forward_hook(hook(sae)) for sae in saes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def answered(
    model: Model, saes: Sequence[Sae], rows: Sequence[SteeringRow], prompt: Sequence[int], new: int, scale: float = 1.0
) -> tuple[list[int], list[Tensor]]:
    """Greedy tokens (the end token included) and the logits that they were chosen by."""
    ids, seen = list(prompt), []
    for _ in range(new):
        with torch.inference_mode(), by_hand(model, saes, rows, len(prompt) - 1, scale):
            seen.append(model.net(torch.tensor([ids]), use_cache=False).logits[0, -1])
        ids.append(int(seen[-1].argmax()))
        if ids[-1] in model.end_tokens:
            break
    return ids[len(prompt) :], seen
