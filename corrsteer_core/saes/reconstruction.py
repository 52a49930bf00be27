"""Does an SAE belong where it is put? Its variance explained and L0 there, and one block away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.models.hooks import Action, HookPoint, Site, hooked
from corrsteer_core.models.loading import Model
from corrsteer_core.saes.sae import Sae


@dataclass(frozen=True)
class Fit:
    """How well an SAE reconstructs what it finds at a hook point."""

    point: HookPoint
    variance_explained: float
    """1 - squared error / squared deviation from the mean; can be far below 0 at the wrong place."""
    l0: float
    """Features active per position, on average."""
    positions: int


@torch.inference_mode()
def explained(
    model: Model, saes: Sequence[Sae], prompts: Sequence[Sequence[int]], progress: Progress = silent
) -> list[list[Fit]]:
    """Each SAE's fit at its own hook point, then at the same point of the block before and of the one after, if there are.

    A prompt is read once for all of them. Its first position is left out: its norm is an outlier in most models.
    """
    sums = [{point: _Sums() for point in _around(sae.point, model)} for sae in saes]
    sites = {point: model.site(point) for of_sae in sums for point in of_sae}
    seen: dict[Site, Tensor] = {}

    def keeping(site: Site) -> Action:
        def keep(activation: Tensor) -> None:
            seen[site] = activation[0, 1:].float().clone()

        return keep

    for done, prompt in enumerate(prompts):
        progress("reading prompts", done, len(prompts))
        with hooked({site: keeping(site) for site in sites.values()}):
            model.net(torch.tensor([list(prompt)], device=model.device), use_cache=False, logits_to_keep=1)
        for sae, of_sae in zip(saes, sums, strict=True):
            for point, so_far in of_sae.items():
                so_far.add(sae, seen[sites[point]])
    progress("reading prompts", len(prompts), len(prompts))
    return [[so_far.fit(point) for point, so_far in of_sae.items()] for of_sae in sums]


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


def _around(point: HookPoint, model: Model) -> list[HookPoint]:
    """The hook point itself, then the same one a block before and a block after, if there are."""
    layers = [point.layer, *(at for at in (point.layer - 1, point.layer + 1) if 0 <= at < model.n_layers)]
    return [HookPoint(layer, point.kind) for layer in layers]


class _Sums:
    """What an SAE made of the positions so far: sums in float64, on the CPU, which every device's numbers can come to."""

    def __init__(self) -> None:
        self.positions = 0
        self.active = 0
        self.error = 0.0
        self.squares = 0.0
        self.total = torch.zeros((), dtype=torch.float64)  # (d_in) with the first positions

    def add(self, sae: Sae, x: Tensor) -> None:
        """Some positions more, (positions, d_in) float32."""
        z = sae.encode(x)
        x = sae.read(x)
        self.error += _squares(sae.decode(z) - x)
        self.squares += _squares(x)
        self.total = self.total + x.cpu().double().sum(0)
        self.active += int((z != 0).sum())
        self.positions += len(x)

    def fit(self, point: HookPoint) -> Fit:
        """The fit at a point; not a number where nothing varies."""
        n = self.positions or float("nan")
        deviation = self.squares - float(self.total.pow(2).sum()) / n
        return Fit(point, 1 - self.error / (deviation or float("nan")), self.active / n, self.positions)


def _squares(x: Tensor) -> float:
    """Sum of squares in float64, which Apple's GPUs do not have."""
    return float(x.cpu().double().pow(2).sum())
