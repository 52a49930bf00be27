"""Where the weights of SAEs lie: on the device that computes, or in main memory, lent to it while they are used.

The SAEs of a large model can take more than the model itself. They are needed one layer at a time, so those that do not
fit beside it need not all be there at once; what is computed is the same, by the same device.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from corrsteer_core.models.limits import bytes_of, memory_of, weights_of
from corrsteer_core.models.loading import Model

SHARE = 0.5
"""Of what a model leaves of a device's memory SAEs take so much at most; the rest is for keys, values and logits."""
_lending = threading.RLock()


def room_for_saes(model: Model, device: torch.device) -> float:
    """Bytes that SAEs may take on a device; no end of them where main memory is what it computes in."""
    return room_beside(weights_of(model, device), memory_of(device)) if device.type == "cuda" else math.inf


def room_beside(weights: int, memory: int) -> int:
    """Bytes that SAEs may take of a device's memory beside so many of a model's weights."""
    return int(SHARE * max(0, memory - weights))


def bytes_of_sae(net: nn.Module) -> int:
    """What an SAE's weights take."""
    return bytes_of(_weights(net))


@contextmanager
def lent(net: nn.Module, device: torch.device) -> Iterator[None]:
    """A module whose weights are copied to a device meanwhile, by one borrower at a time."""
    with _lending:
        weights = _weights(net)
        at_home = [weight.data for weight in weights]
        try:
            for weight in weights:
                weight.data = weight.data.to(device, copy=True)
            yield
        finally:
            for weight, data in zip(weights, at_home, strict=True):
                weight.data = data


def _weights(net: nn.Module) -> list[torch.Tensor]:
    return [*net.parameters(), *net.buffers()]
