"""How long activations are where steering is added: what the length of a steering vector is measured by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corrsteer_core.engine.batches import plan
from corrsteer_core.engine.generation import decode, prefill
from corrsteer_core.models.hooks import Action, HookPoint, Site
from corrsteer_core.models.loading import Model

ENOUGH = 64
"""Prompts that a mean length is taken over: lengths vary by a few percent from prompt to prompt."""
_TOGETHER = 16


class _Lengths:
    """A `Watch` that notes the norm of each row's activation at the last prompt token."""

    def __init__(self, model: Model, points: Sequence[HookPoint]) -> None:
        self.model = model
        self.norms: dict[HookPoint, list[Tensor]] = {point: [] for point in points}

    def prompt_actions(self, mask: Tensor) -> dict[Site, Action]:
        return {}

    def step_actions(self, rows: Tensor, alive: Tensor) -> dict[Site, Action]:
        def noting(point: HookPoint) -> Action:
            return lambda activation: self.norms[point].append(activation[:, -1].float().norm(dim=-1).cpu())

        return {self.model.site(point): noting(point) for point in self.norms}

    def step_done(self) -> None:
        pass


def stream_lengths(
    model: Model, points: Sequence[HookPoint], prompts: Sequence[Sequence[int]]
) -> dict[HookPoint, float]:
    """Mean norm of the unsteered activation at the last prompt token, in residual units, over the first prompts."""
    watch = _Lengths(model, points)
    some = list(prompts)[:ENOUGH]
    for batch in plan(some, _TOGETHER):
        prefix = prefill(model, [some[place] for place in batch])
        for _step in decode(model, prefix, max_new_tokens=1, watch=watch):
            pass
    return {point: float(torch.cat(norms).double().mean()) for point, norms in watch.norms.items()}
