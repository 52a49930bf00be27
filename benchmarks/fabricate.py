"""Runs in a folder of their own: as large as asked, made of random activations, without a model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from corrsteer_core.evaluation.evaluation import Evaluation
from corrsteer_core.evaluation.kept import keep
from corrsteer_core.evaluation.trials import Trial, compare
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.runs import stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SaeRef, SteeringRow, SteeringSet
from corrsteer_core.statistics.rival import compare_with_rivals
from corrsteer_core.storage.writing import Writer
from corrsteer_core.tasks import Item, Split

BATCH = 64
MEASURED = 231
"""Samples that `measure` makes up."""


def items_of(samples: int) -> list[Item]:
    """So many items of a task that there is not."""
    return [Item(id=f"sample-{number:05d}", prompt=f"text {number}", split="train") for number in range(samples)]


def make_run(*, samples: int, layers: int, d_sae: int, rows: int, seed: int = 0) -> str:
    """A collected run, all of it training samples, with about `rows` stored activations; returns its name.

    Stored batch by batch as a collection stores it. Features differ in frequency over three decades.
    """
    rng = np.random.default_rng(seed)
    items = items_of(samples)
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


def measure(run: str, *, tried: int = 48, controls: int = 19, seed: int = 0) -> None:
    """Give a ranked run what pages draw of it beside its ranking: features tried, a set, and two splits of it measured."""
    rng = np.random.default_rng(seed)
    config, _ = stored_run.stored(run)
    rows = [SteeringRow(sae.layer, number, 5.0, note="r +0.500") for number, sae in enumerate(config.saes[:2])]
    steering = stored_run.empty_set_of(run, config, name="A").with_rows(rows)
    stored_run.keep_set(run, steering, "A")
    effects = pd.DataFrame(
        {
            "layer": [config.saes[number % len(config.saes)].layer for number in range(tried)],
            "feature": range(tried),
            "r": rng.uniform(0.1, 0.6, tried),
            "scale": 1.0,
            "coefficient": 5.0,
            "n": 97,
            "unsteered_rate": 0.35,
            "steered_rate": rng.uniform(0.3, 0.5, tried),
            "positive_flips": 12,
            "negative_flips": 5,
            "p": rng.random(tried),
        }
    )
    with Writer(run) as store:
        store.replace("effects", effects)
    for split in ("test", "shifted"):
        keep(steering, _evaluation(steering, split, controls, rng))


def _evaluation(steering: SteeringSet, split: Split, controls: int, rng: np.random.Generator) -> Evaluation:
    """A set that takes 35% to 65%, beside controls that do nothing."""
    items = tuple(Item(id=f"{split}-{number}", prompt=f"text {number}", split=split) for number in range(MEASURED))
    outcomes = (rng.random((MEASURED, 2 + controls)) < [0.35, 0.65, *[0.35] * controls]).astype(float)
    texts = [[f"{number} {place}" for place in range(2 + controls)] for number in range(MEASURED)]
    found = Trial(items, texts, [], outcomes)
    names = [f"random {place + 1}" for place in range(controls)]
    samples = {
        "sample": [item.id for item in items],
        "prompt": [item.prompt for item in items],
        "target": None,
        **{name: [row[place] for row in texts] for place, name in enumerate(("unsteered", "steered"))},
        **{f"outcome_{name}": outcomes[:, place] for place, name in enumerate(("unsteered", "steered"))},
    }
    rivals = {name: outcomes[:, place] for place, name in enumerate(names, 2)}
    return Evaluation(
        steering.name, steering.content, steering.task, split, 1.0, compare(found, 1), 1.3, 1.3, pd.DataFrame(samples),
        controls={name: compare(found, place) for place, name in enumerate(names, 2)},
        against={one.rival: one for one in compare_with_rivals(outcomes[:, 1], rivals)},
        frequencies=dict.fromkeys(("", *names), (0.2, 0.2)),
    )  # fmt: skip
