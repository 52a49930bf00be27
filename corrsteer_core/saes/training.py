"""Training SAEs on a model's residual stream, with SAELens' own trainers and in its own format.

Every layer comes from one pass over the text, whose activations lie in files; each SAE is fitted from one of
them, and measured on sequences that no SAE was trained on. What is finished is kept: the same call made again
goes on with the activations and layers that are missing, and ends with the same SAEs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import write_text
from corrsteer_core.base.progress import Progress
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.loading import Model
from corrsteer_core.saes import training_texts
from corrsteer_core.saes.activation_files import Reading, collect, texts_fingerprint
from corrsteer_core.saes.sae import load_saes
from corrsteer_core.saes.train_config import ARCHITECTURES, NESTED, TrainConfig
from corrsteer_core.saes.worth import worth

HELD_OUT = 0.02  # share of the tokens, the last ones, kept for the card's measurements


def train_saes(
    model: Model,
    files: list[Path],
    out: Path,
    config: TrainConfig,
    progress: Progress,
    activations: Path | None = None,
    read: Reading | None = None,
) -> list[dict[str, Any]]:
    """Train one SAE per layer into `out/layer_L`, and write `out/card.json`. Returns the card's rows.

    Layers that `out` has, trained alike, are left as they are. The activations lie in `activations`, where they stay for
    another training (None: in `out` until all layers are done); `read` reads the texts for them (None: this process).
    Raises CorrSteerError for SAEs in `out` that were trained otherwise.
    """
    if not files:
        raise CorrSteerError("No text file was given to train on.")
    sequences = training_texts.sequences(
        files, model.tokenizer, config.tokens, length=config.length, plain_share=config.plain_share, seed=config.seed
    )
    out.mkdir(parents=True, exist_ok=True)
    card = _Card(out, _made_of(model, files, sequences, config))
    points = [HookPoint(layer) for layer in config.layers]
    missing = [point for point in points if not card.has(point.layer)]
    root = activations or out / "activations"
    if missing:
        # All layers, not the missing ones: that names the files which were collected before.
        stores = collect(model, sequences, points, root, progress, read)
        for point in missing:
            card.add(train(model, point, sequences, stores[point], out / f"layer_{point.layer}", config, progress))
        del stores
    if activations is None:
        shutil.rmtree(root, ignore_errors=True)
    return [card.rows[layer] for layer in config.layers]


def _made_of(model: Model, files: list[Path], sequences: NDArray, config: TrainConfig) -> dict[str, Any]:
    """What all SAEs of one card have in common: the card without layers and measurements."""
    settings = {name: value for name, value in asdict(config).items() if name != "layers"}
    return {
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "files": [file.name for file in files],
        "texts_fingerprint": texts_fingerprint(sequences),
        "config": settings,
    }


class _Card:
    """`card.json` of a folder of SAEs: how they were made, and a row of measurements for each."""

    def __init__(self, folder: Path, made_of: dict[str, Any]) -> None:
        self.folder = folder
        self.made_of = made_of
        self.rows: dict[int, dict[str, Any]] = {}
        if not self._path.exists():
            return
        card = json.loads(self._path.read_text())
        self.rows = {row["layer"]: row for row in card["saes"]}
        if differs := [name for name, value in made_of.items() if card.get(name) != value]:
            raise CorrSteerError(
                f"The folder {folder} holds SAEs that were trained otherwise (another {' and '.join(differs)}, see its "
                f"card.json); name another --out, or delete it."
            )

    @property
    def _path(self) -> Path:
        return self.folder / "card.json"

    def has(self, layer: int) -> bool:
        return layer in self.rows and (self.folder / f"layer_{layer}" / "cfg.json").exists()

    def add(self, row: dict[str, Any]) -> None:
        """Write a row more; a whole file takes the place of the old one, so that it can be stopped anywhere."""
        self.rows[row["layer"]] = row
        card = {**self.made_of, "saes": [self.rows[layer] for layer in sorted(self.rows)]}
        write_text(self._path, json.dumps(card, indent=1) + "\n")


def train(
    model: Model,
    point: HookPoint,
    sequences: NDArray,
    store: Tensor,
    folder: Path,
    config: TrainConfig,
    progress: Progress,
) -> dict[str, Any]:
    """Fit one SAE on (positions, d_model) activations of (sequences, length) token ids, save it as bfloat16, measure it.

    Returns its row of the card, measured on the sequences that were held out.
    """
    n = int(len(store) * (1 - HELD_OUT))
    steps = n * config.epochs // config.batch
    net = _fit(model, store[:n], steps, config, f"training layer {point.layer}", progress)
    net.cfg.metadata.model_name = model.name
    net.cfg.metadata.hook_name = point.name
    net.cfg.metadata.context_size = config.length
    net.cfg.metadata.prepend_bos = False
    _save(net, folder)
    (sae,) = load_saes([str(folder)], model)
    first = -(-n // (config.length - 1))  # the first sequence of which no position was trained on
    return worth(model, sae, sequences[first:], store[first * (config.length - 1) :], progress)


def _fit(model: Model, rows: Tensor, steps: int, config: TrainConfig, stage: str, progress: Progress) -> Any:
    """A SAELens training SAE, fitted on (n, d_model) activations."""
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(config.seed)
    kind, settings = get_sae_training_class(ARCHITECTURES[config.architecture])
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
            order = rng.permutation(len(rows))
            for at in range(0, len(rows) - config.batch + 1, config.batch):
                done += 1
                progress(stage, max(0, min(done, steps)), steps)
                yield rows[torch.from_numpy(np.sort(order[at : at + config.batch]))].float()

    sae = kind(settings(**_settings(config, model, steps)))
    return SAETrainer(trainer_config, sae, batches()).fit()


def _settings(config: TrainConfig, model: Model, steps: int) -> dict[str, Any]:
    """What SAELens' configuration of the architecture takes."""
    settings: dict[str, Any] = {
        "d_in": model.d_model,
        "d_sae": config.d_sae,
        "k": config.k,
        "normalize_activations": "expected_average_only_in",
        "device": str(model.device),
    }
    if config.architecture != "topk":
        # The threshold is a moving average that starts at 0, which it must have forgotten by the end.
        settings["topk_threshold_lr"] = max(0.01, min(1.0, 10 / steps))
    if config.architecture == "matryoshka":
        settings["matryoshka_widths"] = [config.d_sae // part for part in NESTED]
    return settings


def _save(net: Any, folder: Path) -> None:
    """Write an SAE as it is used, in bfloat16: SAELens saves what it trained, float32, and half of that is enough."""
    from sae_lens import SAE

    net.save_inference_model(folder)
    final = SAE.load_from_disk(folder).to(torch.bfloat16)
    final.cfg.dtype = "bfloat16"
    final.cfg.device = "cpu"
    final.save_model(folder)
