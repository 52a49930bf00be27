"""Training SAEs on a model's residual stream, with SAELens' own trainer and in its own format.

Two steps, so that every layer comes from one pass over the text: `collect` writes the activations
of all layers to scratch files, `train` fits one SAE from one of them. `train_saes` does both and
writes a card of what was measured on sequences that no SAE was trained on.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import scratch_folder, write_text
from corrsteer_core.models.hooks import HookPoint, hooked
from corrsteer_core.models.loading import Model
from corrsteer_core.saes import training_texts

HELD_OUT = 0.02  # share of the tokens, the last ones, kept for the card's measurements
LARGEST_SEED = 2**63 - 1  # that NumPy and PyTorch take alike


@dataclass(frozen=True)
class TrainConfig:
    """What defines a set of trained SAEs."""

    layers: tuple[int, ...]
    """Blocks whose output (`resid_post`) is learned."""
    tokens: int = 1_350_000
    """Tokens of text collected."""
    d_sae: int = 2304
    """Features per SAE."""
    k: int = 32
    """Features active at once (TopK)."""
    epochs: int = 2
    """Passes over the collected activations."""
    length: int = 128
    """Tokens per packed sequence; the first position of each is left out (its norm is an outlier)."""
    batch: int = 2048
    """Activations per step."""
    lr: float = 1e-3
    """Adam's learning rate, decayed to zero over the last fifth of the steps."""
    plain_share: float = 0.25
    """Share of the chats written without the chat template."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.layers:
            raise CorrSteerError("No layer was named to train an SAE for; give --layers 8,15,22 or the like.")
        if self.tokens < 10 * self.batch:
            raise CorrSteerError(
                f"{self.tokens} tokens are too few to train on; at least {10 * self.batch} are needed."
            )
        if not 0 <= self.seed <= LARGEST_SEED:
            raise CorrSteerError(f"The seed is {self.seed}; give a whole number from 0 to {LARGEST_SEED}.")
        if not 0 < self.k <= self.d_sae:
            raise CorrSteerError(f"k = {self.k} active features do not fit in {self.d_sae} features.")


Progress = Callable[[str, int, int], None]


def train_saes(model: Model, files: list[Path], out: Path, config: TrainConfig, progress: Progress) -> list[dict]:
    """Train one SAE per layer into `out/layer_L`, and write `out/card.json`. Returns the card's rows."""
    if not files:
        raise CorrSteerError("No text file was given to train on.")
    sequences = list(_sequences(model, files, config))
    with scratch_folder(out) as scratch:
        stores = collect(model, sequences, config, scratch, progress)
        rows = []
        for layer, store in stores.items():
            rows.append(train(model, layer, store, out / f"layer_{layer}", config, progress))
            card = {
                "model": model.name,
                "model_fingerprint": model.fingerprint,
                "files": [file.name for file in files],
                "config": asdict(config),
                "saes": rows,
            }
            write_text(out / "card.json", json.dumps(card, indent=1) + "\n")
    return rows


def _sequences(model: Model, files: list[Path], config: TrainConfig) -> Iterator[list[int]]:
    documents = training_texts.mixed([training_texts.read_documents(file) for file in files], config.seed)
    wanted = config.tokens // config.length
    sequences = training_texts.packed(
        documents, model.tokenizer, length=config.length, plain_share=config.plain_share, seed=config.seed
    )
    taken = list(itertools.islice(sequences, wanted))
    if len(taken) < wanted:
        raise CorrSteerError(
            f"The text files hold {len(taken) * config.length:,} tokens, fewer than the {config.tokens:,} asked for; "
            f"add text or lower --tokens."
        )
    yield from taken


class _Enough(Exception):
    """Raised by the hook at the deepest layer: what follows is not needed."""


@torch.inference_mode()
def collect(
    model: Model, sequences: list[list[int]], config: TrainConfig, scratch: Path, progress: Progress, batch: int = 16
) -> dict[int, Tensor]:
    """Residual stream after each layer, as bfloat16 (tokens, d_model) files in `scratch`, one per layer.

    Half the disk that float32 takes, for any number: Gemma 3's residuals are larger than float16 goes.
    """
    kept = config.length - 1
    shape = (len(sequences) * kept, model.d_model)
    stores = {layer: _file(scratch / str(layer), shape) for layer in config.layers}
    deepest = max(config.layers)
    for start in range(0, len(sequences), batch):
        ids = torch.tensor(sequences[start : start + batch], device=model.device)

        def keep(activation: Tensor, layer: int, at: int = start * kept, n: int = len(ids) * kept) -> None:
            rows = activation[:, 1:].reshape(n, -1).to("cpu", torch.bfloat16)
            if not rows.isfinite().all():
                raise CorrSteerError(
                    f"The residual stream of {model.name} after layer {layer} is not finite, so its weights are damaged or "
                    f"do not fit its configuration; get both anew."
                )
            stores[layer][at : at + n] = rows
            if layer == deepest:
                raise _Enough

        actions = {
            model.site(HookPoint(layer)): (lambda activation, layer=layer: keep(activation, layer))
            for layer in config.layers
        }
        try:
            with hooked(actions):
                model.net.base_model(ids, use_cache=False)
        except _Enough:
            pass
        progress("collecting activations", min(start + batch, len(sequences)), len(sequences))
    return stores


def _file(path: Path, shape: tuple[int, int]) -> Tensor:
    """A bfloat16 tensor that lies in a new file."""
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=torch.bfloat16).view(shape)


def train(model: Model, layer: int, store: Tensor, folder: Path, config: TrainConfig, progress: Progress) -> dict:
    """Fit one TopK SAE on (tokens, d_model) activations, save it as bfloat16, and measure it on held-out ones."""
    from sae_lens import TopKSAE, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(config.seed)
    point = HookPoint(layer)
    n = int(len(store) * (1 - HELD_OUT))
    steps = n * config.epochs // config.batch
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=model.d_model,
            d_sae=config.d_sae,
            k=config.k,
            normalize_activations="expected_average_only_in",
            device=str(model.device),
        )
    )
    trainer_config = SAETrainerConfig(
        total_training_samples=steps * config.batch,
        train_batch_size_samples=config.batch,
        lr=config.lr,
        lr_end=0.0,
        lr_decay_steps=steps // 5,
        device=str(model.device),
        # A feature that has not fired for this many steps (a million tokens at the default) counts as dead.
        dead_feature_window=max(20, min(500, steps // 4)),
        n_batches_for_norm_estimate=20,
        logger=LoggingConfig(log_to_wandb=False),
    )

    def batches() -> Iterator[Tensor]:
        rng = np.random.default_rng(config.seed)
        done = -trainer_config.n_batches_for_norm_estimate
        while True:
            order = rng.permutation(n)
            for at in range(0, n - config.batch + 1, config.batch):
                done += 1
                progress(f"training layer {layer}", max(0, min(done, steps)), steps)
                yield store[torch.from_numpy(np.sort(order[at : at + config.batch]))].float()

    sae = SAETrainer(trainer_config, sae, batches()).fit()
    sae.cfg.metadata.model_name = model.name
    sae.cfg.metadata.hook_name = point.name
    sae.cfg.metadata.context_size = config.length
    sae.cfg.metadata.prepend_bos = False
    sae.save_inference_model(folder)

    # SAELens saves what it trained, float32; half of that is enough to ship.
    final = TopKSAE.load_from_disk(folder).to(torch.bfloat16)
    final.cfg.dtype = "bfloat16"
    final.cfg.device = "cpu"
    final.save_model(folder)
    return {"layer": layer, "hook_name": point.name, **measure(final.to(torch.float32), store[n:])}


@torch.inference_mode()
def measure(sae, activations: Tensor) -> dict[str, float]:
    """Variance explained, mean L0 and dead features of an SAE on (tokens, d_in) activations.

    Variance explained is 1 - sum of squared errors / sum of squared deviations from the mean. A
    feature is dead if it fires on none of the tokens.
    """
    mean = activations.float().mean(0)
    error = total = active = 0.0
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    for at in range(0, len(activations), 4096):
        x = activations[at : at + 4096].float()
        z = sae.encode(x)
        error += (sae.decode(z) - x).double().pow(2).sum().item()
        total += (x - mean).double().pow(2).sum().item()
        active += (z > 0).sum().item()
        fired |= (z > 0).any(0)
    return {
        "tokens_measured": len(activations),
        "variance_explained": round(1 - error / total, 4),
        "l0": round(active / len(activations), 2),
        "dead": round(1 - fired.float().mean().item(), 4),
    }
