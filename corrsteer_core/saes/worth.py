"""What an SAE is worth: the numbers of its card, measured on text that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.models.hooks import hooked
from corrsteer_core.models.loading import Model
from corrsteer_core.saes import interpretability
from corrsteer_core.saes.sae import Sae

DENSE = 0.1
"""A feature that fires at a larger share of the positions is dense: it says little about what it fires on."""
LONG = 10.0
"""Positions whose norm is over so many times the median are left out of the usual variance explained."""
READ = 64
"""Sequences, at most, on which the loss is measured: it takes three passes of the whole model for every SAE."""
JUDGED = 300
"""Features, drawn at random, that detection asks about."""
_CHUNK = 4096
_BATCH = 4  # sequences at a time: their logits are the largest thing in memory


def worth(
    model: Model, sae: Sae, sequences: NDArray, activations: Tensor, progress: Progress = silent
) -> dict[str, Any]:
    """All numbers of an SAE's card: `measure`, `losses` and detection, one flat row.

    `activations`: what the model computes at the SAE's hook point, (sequences * (length - 1), d), the first position of
    every sequence left out.
    """
    numbers = measure(sae, activations)
    lost = losses(model, sae, sequences[:READ], _mean(sae, activations, None), progress)
    found = detected(sae, sequences, activations)
    return {
        "layer": sae.layer,
        "hook_name": sae.point.name,
        **numbers,
        **{f"loss_{name}": round(value, 4) for name, value in lost.items()},
        "loss_recovered": round(recovered(lost), 4),
        "detection_auc": round(found.auc, 4) if found.features else None,
        "detection_features": found.features,
    }


@torch.inference_mode()
def measure(sae: Sae, activations: Tensor) -> dict[str, float]:
    """Variance explained, mean L0, dead and dense features of an SAE on (positions, d_in) activations.

    Variance explained is 1 - sum of squared errors / sum of squared deviations from the mean. The usual one
    leaves out positions longer than `LONG` times the median norm: a few tokens that the model parks attention
    on are hundreds of times longer and hold most of the variance. A feature is dead if it fires on none of the
    positions, dense if it fires on more than `DENSE` of them.
    """
    kinds = {"variance_explained": torch.ones(len(activations), dtype=torch.bool)}
    kinds["variance_explained_usual"] = _usual(activations)
    means = {name: _mean(sae, activations, mask) for name, mask in kinds.items()}
    error, total = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0.0)
    fired = torch.zeros(sae.d_sae, dtype=torch.long)
    for at in range(0, len(activations), _CHUNK):
        x = sae.read(activations[at : at + _CHUNK])
        z = sae.encode(activations[at : at + _CHUNK])
        fired += (z > 0).sum(0).cpu()
        off, x = (sae.decode(z) - x).cpu().double().pow(2).sum(1), x.cpu().double()
        for name, mask in kinds.items():
            part = mask[at : at + _CHUNK]
            error[name] += off[part].sum().item()
            total[name] += (x[part] - means[name]).pow(2).sum().item()
    share = fired.double() / len(activations)
    return {
        "tokens_measured": len(activations),
        **{name: round(1 - error[name] / total[name], 4) for name in kinds},
        "l0": round(share.sum().item(), 2),
        "dead": round((share == 0).double().mean().item(), 4),
        "dense": round((share > DENSE).double().mean().item(), 4),
    }


def _usual(activations: Tensor) -> Tensor:
    norms = torch.cat([part.float().norm(dim=1) for part in activations.split(_CHUNK)])
    return norms <= LONG * norms.median()


def _mean(sae: Sae, activations: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of what the SAE reads, (d_in) float64 on the CPU, over the positions of a mask (None: all)."""
    sums, n = torch.zeros(sae.d_in, dtype=torch.float64), 0
    for at in range(0, len(activations), _CHUNK):
        part = activations[at : at + _CHUNK]
        part = part if mask is None else part[mask[at : at + _CHUNK]]
        sums += sae.read(part).cpu().double().sum(0)
        n += len(part)
    return sums / n


def losses(model: Model, sae: Sae, sequences: NDArray, mean: Tensor, progress: Progress = silent) -> dict[str, float]:
    """Mean next-token loss in nats: of the model, with the SAE's reconstruction in place, and with the mean in place.

    Replaced are all positions but the first, which the SAE was not trained on; what the first predicts is left out.
    """
    by_mean = mean.to(sae.device, torch.float32)

    def by_sae(x: Tensor) -> Tensor:
        with sae.at_hand() as net:
            return net.decode(net.encode(x))

    changes = {"model": None, "sae": by_sae, "mean": by_mean.expand_as}
    return {name: _loss(model, sae, sequences, change, _STAGES[name], progress) for name, change in changes.items()}


_STAGES = {
    "model": "measuring the model's loss",
    "sae": "measuring the loss with the SAE in place",
    "mean": "measuring the loss with the mean in place",
}


def recovered(lost: dict[str, float]) -> float:
    """Share of the loss that the mean costs and the SAE does not: 1 is the model's own, 0 the mean's."""
    return (lost["mean"] - lost["sae"]) / (lost["mean"] - lost["model"])


@torch.inference_mode()
def _loss(
    model: Model,
    sae: Sae,
    sequences: NDArray,
    change: Callable[[Tensor], Tensor] | None,
    stage: str,
    progress: Progress,
) -> float:
    """Mean next-token loss with what the SAE reads replaced by `change` of it (None: as it is)."""

    def replace(activation: Tensor) -> Tensor | None:
        if change is None:
            return None
        old = activation[:, 1:].reshape(-1, activation.shape[-1])
        read = sae.read(old)
        # What the SAE does not read (a mean that it was trained without) stays.
        new = activation.clone()
        new[:, 1:] = (old + (change(read) - read).to(old.device)).to(old.dtype).view_as(activation[:, 1:])
        return new

    total = 0.0
    with hooked({model.site(sae.point): replace}):
        for at in range(0, len(sequences), _BATCH):
            ids = torch.tensor(sequences[at : at + _BATCH], dtype=torch.long, device=model.device)
            logits = model.net(ids, use_cache=False).logits[:, 1:-1].float()
            wanted = ids[:, 2:].flatten().to(logits.device)
            total += cross_entropy(logits.flatten(0, 1), wanted, reduction="sum").item()
            progress(stage, at + len(ids), len(sequences))
    return total / (len(sequences) * (sequences.shape[1] - 2))


@torch.inference_mode()
def detected(sae: Sae, sequences: NDArray, activations: Tensor) -> interpretability.Detection:
    """How well `JUDGED` features drawn at random are recognised by the words they fire on (see `interpretability`)."""
    kept, window = sequences.shape[1] - 1, interpretability.WINDOW
    drawn = np.sort(np.random.default_rng(0).permutation(sae.d_sae)[:JUDGED])
    peaks = []
    for at in range(0, len(sequences), _CHUNK // kept + 1):
        part = activations[at * kept : (at + _CHUNK // kept + 1) * kept]
        z = sae.encode(part)[:, torch.from_numpy(drawn).to(sae.device)].cpu().numpy()
        peaks.append(interpretability.peaks_of(z.reshape(-1, kept, len(drawn))).reshape(-1, len(drawn)))
    words = sequences[:, 1 : 1 + kept // window * window].reshape(-1, window)
    return interpretability.detection(np.concatenate(peaks), words, seed=0)
