"""A run in miniature whose model can be loaded and steered: a random Llama and random SAEs in folders, samples, a set."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch

from corrsteer_core.method import collecting
from corrsteer_core.models.loading import Model, load_model
from corrsteer_core.runs import stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet
from corrsteer_core.saes.sae import Sae, load_saes, ref_of
from corrsteer_core.storage.writing import Writer
from corrsteer_core.tasks import get_task, load_items
from tests.made.kept_runs import copied
from tests.made.models import random_sae, tiny

LAYERS = (1, 2)
D_SAE = 48


@cache
def load(dtype: torch.dtype = torch.float32) -> tuple[Model, list[Sae]]:
    """The tiny Llama and its SAEs, saved in a folder and loaded from there, once; in float32 on every machine."""
    folder = Path(tempfile.mkdtemp(prefix="corrsteer-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = tiny("llama")
    made.net.save_pretrained(folder / "model")
    made.tokenizer.save_pretrained(folder / "model")
    for layer in LAYERS:
        random_sae(made, layer, d_sae=D_SAE).net.save_model(folder / "saes" / f"layer_{layer}")
    model = load_model(str(folder / "model"), dtype=dtype)
    return model, load_saes([str(folder / "saes")], model)


def steering_set(model: Model, saes: list[Sae], *rows: tuple[int, int, float], **named) -> SteeringSet:
    """A set of (layer, feature, coefficient) rows; prompts are put to the model as plain text."""
    made = tuple(SteeringRow(layer, feature, value, note="r +0.321") for layer, feature, value in rows)
    style = named.pop("style", PromptStyle(chat=False))
    return SteeringSet(model.name, model.fingerprint, tuple(ref_of(sae) for sae in saes), made, style=style, **named)


def make_run(model: Model, saes: list[Sae], *, limit: int = 40) -> str:
    """A finished run of the sentiment task in the cache, with the set "A" kept; returns its name."""
    refs = tuple(ref_of(sae) for sae in saes)
    asked = ("tiny", model.name, model.fingerprint, str(model.dtype), refs, limit)
    return copied(asked, lambda: _write(model, saes, limit))


def made_again(model: Model, saes: list[Sae], *, limit: int = 40) -> str:
    """As `make_run`, but no copy: a copy began when the first one did."""
    return _write(model, saes, limit)


def _write(model: Model, saes: list[Sae], limit: int) -> str:
    task = get_task("sentiment")
    items = load_items(task, limit=limit)
    refs = tuple(ref_of(sae) for sae in saes)
    style = PromptStyle(chat=False)
    config = RunConfig("sentiment", model.name, model.fingerprint, "float32", refs, style, 6, limit=limit)
    run = config.run_id(items)
    rng = np.random.default_rng(0)
    active = {}
    for layer in LAYERS:
        pooled = rng.random((len(items), D_SAE)) * (rng.random((len(items), D_SAE)) < 0.5)
        rows, features = pooled.nonzero()
        active[layer] = (rows, features, pooled[rows, features].astype(np.float32))
    with Writer(run) as store:
        store.begin(config, items, 8)
        outcomes = [task.scorer("Positive", item) for item in items]
        store.add_batch([item.id for item in items], ["Positive"] * len(items), outcomes, [1] * len(items), active)
    collecting.refit(run)
    rows = [(1, 3, 4.0), (2, 5, 6.0)]
    stored_run.keep_set(run, steering_set(model, saes, *rows, run=run, task="sentiment", name="A"), "A")
    return run
