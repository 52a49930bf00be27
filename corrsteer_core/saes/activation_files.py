"""A model's activations on texts, as files: what SAEs are trained and measured on.

One pass over the text fills the files of every hook point. Collecting that was stopped goes on where it
was: the files lie in a folder named after the model, the texts and the hook points.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
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


class _Enough(Exception):
    """Raised by the hook that is reached last: what follows in the model is not needed."""


def texts_fingerprint(sequences: NDArray) -> str:
    """Short hash of (sequences, length) token ids."""
    shape = str(sequences.shape).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(sequences, dtype=np.int64).tobytes()).hexdigest()[:12]


def collect(
    model: Model, sequences: NDArray, points: Sequence[HookPoint], root: Path, progress: Progress
) -> dict[HookPoint, Tensor]:
    """Activations at every hook point, as bfloat16 (positions, d) files in a folder of `root`.

    `sequences` are (sequences, length) token ids; the first position of each is left out (its norm is an
    outlier in most models). bfloat16 takes half the disk of float32 for any number: Gemma 3's residuals are
    larger than float16 goes. What an earlier call that was stopped has collected is not collected again.
    Raises CorrSteerError for activations that are not finite.
    """
    folder = root / _key(model, sequences, points)
    folder.mkdir(parents=True, exist_ok=True)
    kept = sequences.shape[1] - 1
    stores = {point: _file(folder / point.name, (len(sequences) * kept, model.width(point.kind))) for point in points}
    for start in range(_done(folder), len(sequences), BATCH):
        batch = torch.tensor(sequences[start : start + BATCH], dtype=torch.long, device=model.device)
        _read(model, batch, {point: store[start * kept :] for point, store in stores.items()})
        _note(folder, start + len(batch))
        progress("collecting activations", start + len(batch), len(sequences))
    return stores


def _key(model: Model, sequences: NDArray, points: Sequence[HookPoint]) -> str:
    """What the activations depend on, as the name of their folder."""
    where = [point.name for point in points]
    parts = json.dumps([model.fingerprint, str(model.dtype), where, texts_fingerprint(sequences)])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def _read(model: Model, ids: Tensor, stores: dict[HookPoint, Tensor]) -> None:
    """Fill the first rows of every store from one batch of token ids (sequences, length)."""
    unseen = set(stores)

    def keeping(point: HookPoint) -> Action:
        def keep(activation: Tensor) -> None:
            rows = activation[:, 1:].reshape(-1, stores[point].shape[1]).to("cpu", torch.bfloat16)
            _check_finite(rows, model, point)
            stores[point][: len(rows)] = rows
            unseen.discard(point)
            if not unseen:
                raise _Enough

        return keep

    try:
        with torch.inference_mode(), hooked({model.site(point): keeping(point) for point in stores}):
            model.net.base_model(ids, use_cache=False)
    except _Enough:
        pass


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
