"""Reading texts for a model's activations, in this process or by workers: a `saes.activation_files.Reading`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.saes.activation_files import BATCH, activations, texts_fingerprint
from corrsteer_core.saes.sae import Sae
from corrsteer_core.workers import arrays
from corrsteer_core.workers.pool import done

Found = dict[HookPoint, Tensor]


def read_texts(model: Model, sequences: NDArray, points: Sequence[HookPoint], first: int) -> Iterator[Found]:
    """Activations at every hook point, (positions, d) bfloat16 on the CPU, batch by batch from batch `first` on."""
    batches = [list(range(start, min(start + BATCH, len(sequences)))) for start in range(0, len(sequences), BATCH)]
    work = _Work(np.asarray(sequences, dtype=np.int32), tuple(points))
    return done(model, (), work, batches, only=range(first, len(batches)))


@dataclass(frozen=True)
class _Work:
    """What is asked of every batch of sequences."""

    sequences: NDArray  # (sequences, length)
    points: tuple[HookPoint, ...]
    sae_refs: tuple[SaeRef, ...] = ()

    def identity(self) -> bytes:
        about = ["activations", texts_fingerprint(self.sequences), *(point.name for point in self.points)]
        return hashlib.sha256("\n".join(about).encode()).digest()

    def ready(
        self, model: Model, saes: Sequence[Sae], on_progress: Callable[[float], None]
    ) -> Callable[[list[int]], Iterator[Found]]:
        return lambda batch: iter([activations(model, self.sequences[batch], self.points)])

    def encode(self, results: Sequence[Found]) -> bytes:
        return arrays.encode(
            [{point.name: rows.view(torch.int16).numpy() for point, rows in found.items()} for found in results]
        )

    def decode(self, data: bytes) -> list[Found]:
        def tensor(found: dict[str, np.ndarray], point: HookPoint) -> Tensor:
            return torch.from_numpy(found[point.name]).view(torch.bfloat16)

        return [{point: tensor(found, point) for point in self.points} for found in arrays.decode(data)]
