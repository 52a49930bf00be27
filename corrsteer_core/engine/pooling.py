"""Pooled activations: one number per sample and feature, taken while the model generates.

Residuals (d_in wide) are kept for a chunk of steps, then encoded in one product per layer and
folded into a running maximum (or sum), so memory does not grow with the number of steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from corrsteer_core.models.hooks import Action, Site
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.poolings import DEFAULT_POOLING, get_pooling
from corrsteer_core.saes.sae import Sae

CHUNK = 1024
"""Positions kept until they are encoded."""
BLOCKS = {"cpu": 256}
"""Positions encoded in one product (elsewhere: all that are kept); a CPU's cache should hold what comes of it."""


class Pooler:
    """A `Watch` that pools the features of several SAEs over the generation positions of a batch.

    `start` is what was pooled, (1, d_sae) per SAE, over the opening that all prompts of the batch share.
    """

    def __init__(
        self,
        model: Model,
        saes: Sequence[Sae],
        n_rows: int,
        pooling: str = DEFAULT_POOLING,
        chunk: int = CHUNK,
        start: Sequence[Tensor] | None = None,
    ):
        self.model, self.saes, self.pooling, self.chunk = model, saes, get_pooling(pooling), chunk
        # One row more than there are: what rows that have ended go on to produce is put there, and never read.
        self._pooled = [torch.zeros(n_rows + 1, sae.d_sae, device=sae.device) for sae in saes]
        for pooled, opening in zip(self._pooled, start or (), strict=start is not None):
            pooled += opening
        self.counts = torch.zeros(n_rows, device=model.device)  # generation positions, for the mean
        self._kept: list[list[Tensor]] = [[] for _ in saes]  # per SAE, activations (rows, d_in) of the steps in hand
        self._rows: list[Tensor] = []  # per step, the row of each activation
        self._waiting = 0

    def prompt_actions(self, mask: Tensor) -> dict[Site, Action]:
        if not self.pooling.prompt_too:
            return {}
        real = mask.bool()
        rows = real.nonzero()[:, 0]

        def reading(index: int) -> Action:
            def look(activation: Tensor) -> None:
                self._fold(index, activation[real.to(activation.device)], rows)

            return look

        return {self.model.site(sae.point): reading(index) for index, sae in enumerate(self.saes)}

    def step_actions(self, rows: Tensor, alive: Tensor) -> dict[Site, Action]:
        def reading(index: int) -> Action:
            def look(activation: Tensor) -> None:
                # A copy: the model may go on to change this tensor in place.
                self._kept[index].append(activation.flatten(0, 1).clone())

            return look

        self._rows.append(torch.where(alive, rows, len(self.counts)))
        self._waiting += len(rows)
        self.counts[rows] += alive
        return {self.model.site(sae.point): reading(index) for index, sae in enumerate(self.saes)}

    def step_done(self) -> None:
        if self._waiting >= self.chunk:
            self._flush()

    @property
    def pooled(self) -> list[Tensor]:
        """What has been folded so far per SAE, (rows, d_sae)."""
        return [pooled[:-1] for pooled in self._pooled]

    @torch.inference_mode()
    def result(self) -> list[Tensor]:
        """Pooled activations per SAE, (rows, d_sae) each, float32."""
        self._flush()
        if self.pooling.averaged:
            return [total / self.counts.clamp_min(1).to(total.device)[:, None] for total in self.pooled]
        return self.pooled

    @torch.inference_mode()
    def _flush(self) -> None:
        if self._rows:
            rows = torch.cat(self._rows)
            for index, kept in enumerate(self._kept):
                self._fold(index, torch.cat(kept), rows)
                kept.clear()
        self._rows.clear()
        self._waiting = 0

    @torch.inference_mode()
    def _fold(self, index: int, activations: Tensor, rows: Tensor) -> None:
        """Encode activations (n, d_in) of the given rows (n,) and fold them into the pooled ones."""
        pooled = self._pooled[index]
        rows = rows.to(pooled.device)
        block = BLOCKS.get(pooled.device.type, self.chunk)
        for start in range(0, len(activations), block):
            encoded = self.saes[index].encode(activations[start : start + block])
            some = rows[start : start + block]
            if self.pooling.combine == "sum":
                pooled.index_add_(0, some, encoded)
            else:
                with warnings.catch_warnings():  # torch calls it beta; it is 10 times a loop's speed
                    warnings.filterwarnings("ignore", "index_reduce")
                    pooled.index_reduce_(0, some, encoded, "amax")


def sparse_rows(pooled: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The active entries of (rows, d_sae): row numbers, feature indices, values (float32)."""
    rows, features = pooled.nonzero(as_tuple=True)
    return rows.cpu().numpy(), features.cpu().numpy().astype(np.int32), pooled[rows, features].cpu().numpy()
