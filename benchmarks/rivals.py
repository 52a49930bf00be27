"""What the engine is measured against: transformers' own `generate`, as its users call it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corrsteer_core.engine.generation import UNSTEERED, Vectors
from corrsteer_core.engine.steering import steered
from corrsteer_core.models.hooks import hooked
from corrsteer_core.models.loading import Model
from corrsteer_core.saes.sae import Sae

Prompts = Sequence[Sequence[int]]
BATCH_SIZES = (16, 32, 64)


@torch.inference_mode()
def generate(
    model: Model, prompts: Prompts, new: int, batch_size: int, vectors: Vectors = UNSTEERED
) -> list[list[int]]:
    """Tokens of every prompt by `generate`, batches of like length, padded on the left."""
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    found: list[list[int]] = [[] for _ in prompts]
    pad = next(iter(model.end_tokens), 0)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        width = max(len(prompts[place]) for place in places)
        ids = torch.full((len(places), width), pad)
        mask = torch.zeros_like(ids)
        for row, place in enumerate(places):
            ids[row, width - len(prompts[place]) :] = torch.tensor(prompts[place])
            mask[row, width - len(prompts[place]) :] = 1
        with steered(model, vectors):
            out = model.net.generate(
                ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=new,
                do_sample=False,
                eos_token_id=sorted(model.end_tokens),
                pad_token_id=pad,
            )
        for place, row in zip(places, out[:, width:].tolist(), strict=True):
            found[place] = _until_end(model, row)
    return found


def _until_end(model: Model, tokens: list[int]) -> list[int]:
    ends = [place for place, token in enumerate(tokens) if token in model.end_tokens]
    return tokens[: ends[0] + 1] if ends else tokens


def encoding_every_step(model: Model, saes: Sequence[Sae], prompts: Prompts, new: int, batch_size: int) -> None:
    """`generate` with every SAE run at every step, as the published code does it.

    Activations are kept for all steps, (batch, steps, d_sae), concatenated as they come; the maximum is taken at the end.
    """
    for start in range(0, len(prompts), batch_size):
        kept: list[Tensor | None] = [None] * len(saes)

        def reading(index: int, kept: list[Tensor | None] = kept):
            def look(activation: Tensor) -> None:
                z = saes[index].encode(activation[:, -1])[:, None]  # (batch, 1, d_sae)
                before = kept[index]
                kept[index] = z if before is None else torch.cat([before, z], 1)

            return look

        with hooked({model.site(sae.point): reading(index) for index, sae in enumerate(saes)}):
            generate(model, prompts[start : start + batch_size], new, batch_size)
        for z in kept:
            assert z is not None
            z.amax(1)
