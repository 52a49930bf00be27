"""One measurement in a process of its own, so that its peak memory is its own: prints JSON on the last line."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.measure import own_peak


def fit(run: str) -> dict:
    """Refit a cached run: seconds, and what it takes of them to read the cache."""
    from corrsteer_core.runs.fit import fit, training_activations
    from corrsteer_core.storage.writing import Writer

    reading = 0.0
    started = time.perf_counter()
    with Writer(run) as store:
        fit(store)
    whole = time.perf_counter() - started
    peak = own_peak()
    with Writer(run) as store:
        started = time.perf_counter()
        training_activations(store, *_layers(store)[0])
        reading = (time.perf_counter() - started) * len(_layers(store))
    return {"seconds": whole, "reading": reading, "peak": peak}


def dense(run: str, layers: str) -> dict:
    """The same numbers from dense float64 matrices in memory, for some layers; seconds of one layer, reading left out."""
    from corrsteer_core.runs.fit import FitSettings, training_activations, training_outcomes
    from corrsteer_core.storage.reading import Reader

    seconds, product, differences = 0.0, 0.0, []
    settings = FitSettings()
    with Reader(run) as store:
        y = training_outcomes(store).to_numpy()
        chosen = _layers(store)[: int(layers)]
        for layer, d_sae in chosen:
            Z = training_activations(store, layer, d_sae).toarray()
            started = time.perf_counter()
            r = by_products(Z, y, settings.permutations, settings.seed)
            seconds += time.perf_counter() - started
            started = time.perf_counter()
            (y - y.mean()) @ Z
            product += time.perf_counter() - started
            stored = store.query("SELECT feature, r FROM features WHERE layer = ? AND r IS NOT NULL", [layer])
            differences.append(np.abs(r[stored["feature"]] - stored["r"]).max())
    count = len(chosen)
    return {
        "seconds": seconds / count,
        "product": product / count,
        "difference": float(np.max(differences)),
        "peak": own_peak(),
    }


def by_products(Z: np.ndarray, y: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """r, support, coefficient and the permutations' maxima of one dense layer (samples, features); returns r."""
    rng = np.random.default_rng(seed)
    dealt = np.stack([y, *(rng.permutation(y) for _ in range(permutations))])
    dealt = dealt - y.mean()
    (Z != 0).sum(0)
    (y > 0).astype(float) @ Z
    mean = Z.mean(0)
    length = np.sqrt(np.einsum("ij,ij->j", Z, Z) - len(y) * mean**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (dealt @ Z) / length / np.sqrt((dealt[0] ** 2).sum())  # (1 + permutations, features)
    np.nanmax(r[1:], axis=1)
    return r[0]


def _layers(store) -> list[tuple[int, int]]:
    from corrsteer_core.runs.fit import sae_sizes

    return list(sae_sizes(store).items())


def collect(subject: str, samples: str, new: str) -> dict:
    """Collect so many samples of so many tokens, none of which ends an answer; peak memory."""
    from dataclasses import replace

    from benchmarks import subjects
    from corrsteer_core.engine.batches import answers
    from corrsteer_core.engine.pooling import sparse_rows

    made = getattr(subjects, subject)()
    model = replace(made.model, end_tokens=frozenset())
    stored = 0
    for batch in answers(model, made.task(int(new), int(samples)), max_new_tokens=int(new), saes=made.saes):
        stored += sum(len(sparse_rows(z)[0]) for z in batch.pooled or [])
    return {"stored": stored, "peak": own_peak()}


def store(samples: str) -> dict:
    """What a sample costs beside the model, in a run of so many: seconds to store, to go on from, to read; peak memory
    (`peak` before a layer is read, `read` with it)."""
    import tempfile

    from benchmarks import fabricate
    from corrsteer_core.engine.batches import plan
    from corrsteer_core.method.collecting import answered
    from corrsteer_core.models.prompts import Prompts
    from corrsteer_core.runs.fit import training_activations
    from corrsteer_core.storage.reading import Reader
    from corrsteer_core.storage.writing import Writer

    count = int(samples)
    with tempfile.TemporaryDirectory(prefix="corrsteer-bench-") as folder:
        os.environ["CORRSTEER_CACHE"] = folder
        started = time.perf_counter()
        run = fabricate.make_run(samples=count, layers=2, d_sae=1000, rows=40 * count)
        stored = time.perf_counter()
        with Writer(run) as opened:
            finished = answered(opened, fabricate.items_of(count))
            batches = plan(Prompts([1] * (20 + number % 30) for number in range(count)), 64, 24)
            assert all(finished.issuperset(batch) for batch in batches)
        planned, peak = time.perf_counter(), own_peak()
        with Reader(run) as reader:
            training_activations(reader, 0, 1000)
        read = time.perf_counter()
    seconds = (stored - started, planned - stored, read - planned)
    names = ("storing and publishing", "resuming and planning", "reading")
    return {name: one / count for name, one in zip(names, seconds, strict=True)} | {"peak": peak, "read": own_peak()}


def driver(samples: str) -> dict:
    """The process that gives so many samples to a worker, which makes its answers up, and stores what comes; peak memory."""
    import tempfile
    from dataclasses import replace
    from importlib import import_module

    from benchmarks import subjects
    from benchmarks.workers import Inventing
    from corrsteer_core.method.collecting import collect
    from corrsteer_core.method.run_setup import Setup
    from corrsteer_core.runs.prompt_style import PromptStyle
    from corrsteer_core.runs.run_config import RunConfig
    from corrsteer_core.saes.sae import ref_of
    from corrsteer_core.tasks import Item, get_task
    from corrsteer_core.workers.pool import spread_over
    from corrsteer_core.workers.ray_pool import RayPool

    made = subjects.tiny()
    model, saes = replace(made.model, tokenizer=import_module("tests.made.models").tokenizer()), made.saes[:2]
    items = [
        Item(id=f"sample-{number:06d}", prompt=f"text {number}", split="train", target="A")
        for number in range(int(samples))
    ]
    refs = tuple(ref_of(sae) for sae in saes)
    config = RunConfig("sentiment", model.name, model.fingerprint, "float32", refs, PromptStyle(chat=False), 1)
    with tempfile.TemporaryDirectory(prefix="corrsteer-bench-") as folder:
        os.environ["CORRSTEER_CACHE"] = folder
        setup = Setup(config.run_id(items), config, model, saes, get_task("sentiment"), items)
        with RayPool(1, kind=Inventing) as pool, spread_over(pool):
            collect(setup, batch_size=64)
            collect(setup)  # which finds all of it there
    return {"peak": own_peak()}


def idle() -> dict:
    """Nothing: what the process itself takes."""
    return {"peak": own_peak()}


if __name__ == "__main__":
    measures: dict[str, Callable[..., dict]] = {
        "fit": fit,
        "dense": dense,
        "collect": collect,
        "idle": idle,
        "store": store,
        "driver": driver,
    }
    print(json.dumps(measures[sys.argv[1]](*sys.argv[2:])))
