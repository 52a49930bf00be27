"""A model's activations on texts, as files: what SAEs are trained and measured on.

One pass over the text fills the files of every hook point. Collecting that was stopped goes on where it
was: the files lie in a folder named after the model, the texts and the hook points.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import write_text
from corrsteer_core.base.progress import Progress
from corrsteer_core.models.hooks import Action, HookPoint, hooked
from corrsteer_core.models.loading import Model

BATCH = 16  # sequences read at a time

Reading = Callable[[Model, NDArray, Sequence[HookPoint], int], Iterator[dict[HookPoint, Tensor]]]
"""Reads (sequences, length) token ids, BATCH at a time, the first so many batches left out: yields what `activations`
makes of each, in their order."""


class _Enough(Exception):
    """Raised by the hook that is reached last: what follows in the model is not needed."""


def texts_fingerprint(sequences: NDArray) -> str:
    """Short hash of (sequences, length) token ids."""
    shape = str(sequences.shape).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(sequences, dtype=np.int64).tobytes()).hexdigest()[:12]


def collect(
    model: Model,
    sequences: NDArray,
    points: Sequence[HookPoint],
    root: Path,
    progress: Progress,
    read: Reading | None = None,
) -> dict[HookPoint, Tensor]:
    """Activations at every hook point, as bfloat16 (positions, d) files in a folder of `root`.

    `sequences` are (sequences, length) token ids; the first position of each is left out (its norm is an
    outlier in most models). bfloat16 takes half the disk of float32 for any number: Gemma 3's residuals are
    larger than float16 goes. What an earlier call that was stopped has collected is not collected again.
    `read` reads them (None: this process). Raises CorrSteerError for activations that are not finite.
    """
    folder = root / _key(model, sequences, points)
    folder.mkdir(parents=True, exist_ok=True)
    kept = sequences.shape[1] - 1
    stores = {point: _file(folder / point.name, (len(sequences) * kept, model.width(point.kind))) for point in points}
    start = _done(folder)
    for found in (read or read_here)(model, sequences, points, -(-start // BATCH)):
        end = min(start + BATCH, len(sequences))
        for point, rows in found.items():
            stores[point][start * kept : end * kept] = rows
        _note(folder, end)
        progress("collecting activations", end, len(sequences))
        start = end
    return stores


def read_here(
    model: Model, sequences: NDArray, points: Sequence[HookPoint], first: int
) -> Iterator[dict[HookPoint, Tensor]]:
    """A `Reading` in this process."""
    for start in range(first * BATCH, len(sequences), BATCH):
        yield activations(model, sequences[start : start + BATCH], points)


def _key(model: Model, sequences: NDArray, points: Sequence[HookPoint]) -> str:
    """What the activations depend on, as the name of their folder."""
    where = [point.name for point in points]
    parts = json.dumps([model.fingerprint, str(model.dtype), where, texts_fingerprint(sequences)])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def activations(model: Model, sequences: NDArray, points: Sequence[HookPoint]) -> dict[HookPoint, Tensor]:
    """Of one batch of token ids (sequences, length) at every hook point: (positions, d) bfloat16, on the CPU.

    The first position of each sequence is left out. Raises CorrSteerError where they are not finite.
    """
    found: dict[HookPoint, Tensor] = {}
    ids = torch.tensor(sequences, dtype=torch.long, device=model.device)

    def keeping(point: HookPoint) -> Action:
        def keep(activation: Tensor) -> None:
            rows = activation[:, 1:].reshape(-1, activation.shape[-1]).to("cpu", torch.bfloat16)
            _check_finite(rows, model, point)
            found[point] = rows
            if len(found) == len(set(points)):
                raise _Enough

        return keep

    try:
        with torch.inference_mode(), hooked({model.site(point): keeping(point) for point in points}):
            model.net.base_model(ids, use_cache=False)
    except _Enough:
        pass
    return found


def _check_finite(rows: Tensor, model: Model, point: HookPoint) -> None:
    if not rows.isfinite().all():
        raise CorrSteerError(
            f"What {model.name} computes at {point.name} is not finite, so its weights are damaged or do not fit its "
            f"configuration; get both again."
        )


def _file(path: Path, shape: tuple[int, int]) -> Tensor:
    """A bfloat16 tensor that lies in a file, made if it is not there."""
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=torch.bfloat16).view(shape)


def _done(folder: Path) -> int:
    """Sequences collected before."""
    path = folder / "done"
    return int(path.read_text()) if path.exists() else 0


def _note(folder: Path, done: int) -> None:
    """Remember how far it is; a whole file takes the place of the old one, so that it can be stopped anywhere."""
    write_text(folder / "done", str(done))
