"""Picking the next token of each row from its logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_SEEDS = 2**63  # that PyTorch takes
Choose = Callable[[Tensor, int], Tensor]
"""Picks the next token of each row from logits (rows, vocabulary) at a step: (rows,)."""


def greedy(logits: Tensor, step: int) -> Tensor:
    """The most probable token of each row."""
    return logits.argmax(-1)


def sampled(temperature: float, seed: int) -> Choose:
    """Sampling with the same random numbers for every row, so that variants differ only by their steering.

    Adds Gumbel noise to logits / temperature and takes the largest, which samples from the softmax.
    """
    if temperature <= 0:
        return greedy

    def choose(logits: Tensor, step: int) -> Tensor:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % _SEEDS)
        noise = -torch.log(-torch.log(torch.rand(logits.shape[-1], generator=generator).clamp_min(1e-20)))
        return (logits.float() / temperature + noise.to(logits.device)).argmax(-1)

    return choose


def constrained(allowed: Sequence[int]) -> Choose:
    """The most probable of a few tokens (constrained decoding, for multiple choice)."""

    def choose(logits: Tensor, step: int) -> Tensor:
        ids = torch.tensor(list(allowed), device=logits.device)
        return ids[logits[:, ids].argmax(-1)]

    return choose
