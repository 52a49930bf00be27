"""Runs in a folder of their own: as large as asked, made of random activations, without a model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.storage.writing import Writer
from corrsteer_core.tasks import Item

BATCH = 64


def make_run(*, samples: int, layers: int, d_sae: int, rows: int, seed: int = 0) -> str:
    """A collected run, all of it training samples, with about `rows` stored activations; returns its name.

    Stored batch by batch as a collection stores it. Features differ in frequency over three decades.
    """
    rng = np.random.default_rng(seed)
    items = [Item(id=f"sample-{number:05d}", prompt=f"text {number}", split="train") for number in range(samples)]
    refs = tuple(
        SaeRef(layer, f"fabricated/{layer}", HookPoint(layer).name, f"{layer:012x}", d_sae) for layer in range(layers)
    )
    config = RunConfig("fabricated", "fabricated", "0" * 12, "float32", refs, PromptStyle(chat=False), 1)
    run = config.run_id(items)
    frequency = 10.0 ** rng.uniform(-3, 0, (layers, d_sae))
    frequency = (frequency * (rows / (samples * layers * d_sae) / frequency.mean())).clip(max=1).astype(np.float32)
    with Writer(run) as store:
        store.begin(config, items, BATCH)
        for start in range(0, samples, BATCH):
            some = items[start : start + BATCH]
            store.add_batch(
                [item.id for item in some],
                ["text"] * len(some),
                rng.integers(0, 2, len(some)).astype(float).tolist(),
                [1] * len(some),
                {layer: _active(rng, len(some), frequency[layer]) for layer in range(layers)},
            )
    return run


def _active(rng: np.random.Generator, samples: int, frequency: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, features and values of the active entries of some samples at one layer."""
    rows, features = (rng.random((samples, len(frequency)), dtype=np.float32) < frequency).nonzero()
    return rows, features.astype(np.int32), rng.standard_exponential(len(rows), dtype=np.float32) + np.float32(0.1)


def rank_all(run: str, *, layers: int, d_sae: int, samples: int, seed: int = 0) -> None:
    """Give a fabricated run a fit in which every feature of every layer fired: layers x d_sae rows."""
    rng = np.random.default_rng(seed)
    count = layers * d_sae
    support = rng.integers(1, samples + 1, count)
    features = pd.DataFrame(
        {
            "layer": np.repeat(np.arange(layers), d_sae),
            "feature": np.tile(np.arange(d_sae), layers),
            "r": rng.normal(0, 0.05, count).clip(-1, 1),
            "coefficient": rng.exponential(1, count),
            "support": support,
            "frequency": support / samples,
            "frequency_correct": support / samples,
            "frequency_incorrect": support / samples,
            "p": rng.random(count),
            "q": 1.0,
        }
    )
    chance = pd.DataFrame({"layer": [*range(layers), None], "level": 0.2, "median": 0.18, "best": 0.22, "p": 0.03})
    fits = {"samples": samples, "success_rate": 0.5, "constant": False, "floor": 12, "permutations": 200, "seed": 0}
    with Writer(run) as store:
        store.replace("features", features)
        store.replace("chance", chance.astype({"layer": "Int16"}))
        store.replace("fits", pd.DataFrame([fits]))
