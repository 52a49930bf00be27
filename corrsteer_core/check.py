"""Does an SAE belong where it is put? Its variance explained and L0 there, and one block away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from corrsteer_core.hooks import HookPoint, hooked
from corrsteer_core.models import Model
from corrsteer_core.saes import Sae


@dataclass(frozen=True)
class Fit:
    """How well an SAE reconstructs what it finds at a hook point."""

    point: HookPoint
    variance_explained: float
    """1 - squared error / squared deviation from the mean; can be far below 0 at the wrong place."""
    l0: float
    """Features active per position, on average."""
    positions: int


def explained(model: Model, sae: Sae, prompts: Sequence[Sequence[int]]) -> list[Fit]:
    """The SAE's fit at its own hook point, then at the same point of the block before and of the one after, if there are.

    The first position of every prompt is left out: its norm is an outlier in most models.
    """
    around = [layer for layer in (sae.layer - 1, sae.layer + 1) if 0 <= layer < model.n_layers]
    points = [sae.point, *(HookPoint(layer, sae.point.kind) for layer in around)]
    return [_fit(sae, point, _activations(model, point, prompts)) for point in points]


def looks_broken(own: Fit, *neighbours: Fit) -> str | None:
    """One sentence when a pairing looks wrong, else None."""
    best = max(neighbours, key=lambda fit: fit.variance_explained, default=own)
    if own.l0 == 0:
        return f"No feature of the SAE fires at {own.point.name}: it was probably trained on inputs of another size."
    if best.variance_explained > own.variance_explained:
        return (
            f"The SAE explains more at layer {best.point.layer} ({best.variance_explained:.0%}) than at its own "
            f"layer {own.point.layer} ({own.variance_explained:.0%}): its hook point is probably off by one."
        )
    if own.variance_explained < 0.2:
        return (
            f"The SAE explains only {own.variance_explained:.0%} of the variance at {own.point.name}: it was probably "
            f"trained on another model or on other inputs."
        )
    return None


@torch.inference_mode()
def _activations(model: Model, point: HookPoint, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """(positions, d) float32 at a hook point, one prompt at a time."""
    kept: list[torch.Tensor] = []

    def look(activation: torch.Tensor) -> None:
        kept.append(activation[0, 1:].float().clone())

    with hooked({model.site(point): look}):
        for prompt in prompts:
            model.net(torch.tensor([list(prompt)], device=model.device), use_cache=False, logits_to_keep=1)
    return torch.cat(kept)


@torch.inference_mode()
def _fit(sae: Sae, point: HookPoint, x: torch.Tensor) -> Fit:
    z = sae.encode(x)
    x = sae.read(x)
    error, total = _squares(sae.net.decode(z) - x), _squares(x - x.mean(0))
    return Fit(point, float(1 - error / total), float((z != 0).sum() / len(x)), len(x))


def _squares(x: torch.Tensor) -> torch.Tensor:
    """Sum of squares in float64, which Apple's GPUs do not have."""
    return x.cpu().double().pow(2).sum()
