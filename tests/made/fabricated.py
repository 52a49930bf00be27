"""A small run made up of planted numbers, for tests of what shows runs: no model, no SAE.

In it feature 7 of layer 22 has the highest r and harms; feature 41 of layer 8 has a modest r and helps.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from corrsteer_core.runs.fit import FitSettings, fit
from corrsteer_core.storage.writing import Writer
from tests.made.kept_runs import copied

LAYERS = (8, 15, 22)
D_SAE = 120
HIGHEST_R = (22, 7)
BEST_EFFECT = (8, 41)
SPLITS = {"train": 160, "validation": 60, "test": 60}
NOW = pd.Timestamp("2026-11-22 21:00:00")
HOSTILE = (
    "<script>alert('x')</script><img src=x onerror=alert(1)> **bold** $x$ :material/delete: \u202eevil\u202c \x07 "
    "www.x.evil x@x.evil"
)

OF_CLASSES = {
    "offset": {"bias": {"Negative": 0.4, "Positive": -0.4}, "steered_bias": {"Negative": 0.0, "Positive": 0.0},
               "fitted_on": 60, "rate": 46 / 60, "effect": 7 / 60, "positive_flips": 9, "negative_flips": 2, "p": 0.065,
               "interval": [0.01, 0.22]},
    "beyond_prior": {"unsteered_rate": 46 / 60, "steered_rate": 47 / 60, "effect": 1 / 60, "positive_flips": 3,
                     "negative_flips": 2, "p": 1.0, "interval": [-0.06, 0.1]},
    "auc": {"unsteered": 0.781, "steered": 0.795, "interval": [-0.011, 0.042]},
    "classes": [{"class": "Negative", "n": 25, "unsteered_rate": 10 / 25, "steered_rate": 21 / 25},
                {"class": "Positive", "n": 35, "unsteered_rate": 29 / 35, "steered_rate": 27 / 35}],
    "confusion": {"names": ["Negative", "Positive"], "unsteered": [[10, 14, 1], [4, 29, 2]],
                  "steered": [[21, 4, 0], [7, 27, 1]]},
    "answers": {"unsteered": {"commonest": "Positive", "share": 43 / 60, "no_choice": 3 / 60},
                "steered": {"commonest": "Positive", "share": 31 / 60, "no_choice": 1 / 60}},
    "majority_rate": 35 / 60, "near_ties": 4, "near_tie_bound": 0.01, "flips_to_turn": 3,
    "near_ties_could_turn": False, "test": "mcnemar", "against": {}, "strategy": "V", "dtype": "float32", "chosen_on": False,
}  # fmt: skip
"""Of a measurement of 60 samples, 39 right unsteered and 48 steered: a constant per class does almost as much."""


def make_run(
    run: str = "sentiment-0fab1e00",
    *,
    task: str = "sentiment",
    constant: bool = False,
    noise: bool = False,
    fitted: bool = True,
    measured: bool = True,
    collected: float = 1.0,
    text: str = "What a lovely film",
    seed: int = 0,
    classes: bool = False,
) -> str:
    """Write a run into the cache and return its name.

    `constant`: every answer is right; `noise`: no feature goes with the outcome; `measured`: with
    effects, sets and evaluations; `collected`: share of the samples that have been answered; `classes`: the evaluation
    says what one constant per class does, and that the set does no more.
    """
    asked = (run, task, constant, noise, fitted, measured, collected, text, seed, classes)
    return copied(("fabricated", *asked), lambda: _write(*asked))


def _write(
    run: str,
    task: str,
    constant: bool,
    noise: bool,
    fitted: bool,
    measured: bool,
    collected: float,
    text: str,
    seed: int,
    classes: bool,
) -> str:
    rng = np.random.default_rng(seed)
    samples = _samples(rng, text, constant)
    samples.loc[samples.index >= collected * len(samples), ["output", "outcome", "tokens"]] = None
    with Writer(run) as store:
        store.replace("runs", pd.DataFrame([{"created": NOW, "config": json.dumps(_config(task)), "batch_size": 16}]))
        store.replace("samples", samples)
        store.replace("activations", _activations(rng, samples, noise or constant))
        if fitted:
            fit(store, FitSettings(permutations=150))
        if measured:
            store.replace("effects", _effects(store, noise))
            store.replace("sets", pd.DataFrame([_set(run, name) for name in ("S", "A", "V")]))
            store.replace("evaluations", pd.DataFrame([_evaluation(samples, noise, classes)]))
    return run


def _config(task: str) -> dict:
    saes = [
        {"layer": layer, "source": f"embedded/layer_{layer}", "hook_name": f"blocks.{layer}.hook_resid_post",
         "fingerprint": f"f{layer}", "d_sae": D_SAE}
        for layer in LAYERS
    ]  # fmt: skip
    return {
        "task": task, "model": "SmolLM2-135M-Instruct", "model_fingerprint": "m0", "dtype": "float32", "saes": saes,
        "style": {"chat": False, "system": "", "shots": []}, "max_new_tokens": 1, "pooling": "max", "seed": 0,
        "limit": None, "data": "", "scorer": "",
    }  # fmt: skip


def _samples(rng: np.random.Generator, text: str, constant: bool) -> pd.DataFrame:
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    n = len(splits)
    outcome = np.ones(n) if constant else (rng.random(n) < 0.69).astype(float)
    return pd.DataFrame(
        {
            "sample": [f"row-{place:04d}" for place in range(n)],
            "split": splits,
            "prompt": [f"{text}, number {place}." for place in range(n)],
            "target": "Positive",
            "output": [" Positive" if one else f" Negative ({text})" for one in outcome],
            "outcome": outcome,
            "tokens": 1,
            "item": "{}",
        }
    )


def _activations(rng: np.random.Generator, samples: pd.DataFrame, noise: bool) -> pd.DataFrame:
    y = samples["outcome"].fillna(0).to_numpy()
    frames = []
    for layer in LAYERS:
        fires = rng.random((len(y), D_SAE)) < rng.beta(0.5, 2.0, D_SAE)
        z = np.where(fires, rng.gamma(2.0, 1.5, fires.shape), 0.0)
        for (of, feature), pull in {HIGHEST_R: 2.5, BEST_EFFECT: 1.1}.items():
            if of == layer and not noise:
                z[:, feature] = np.maximum(0, rng.normal(1.0, 1.6, len(y)) + pull * y)
        rows, features = np.nonzero(z)
        frames.append(
            pd.DataFrame(
                {
                    "sample": samples["sample"].to_numpy()[rows],
                    "layer": layer,
                    "feature": features,
                    "value": z[rows, features],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _effects(store: Writer, noise: bool) -> pd.DataFrame:
    """The three features of highest r of each layer and the planted ones, at four scales."""
    top = store.query(
        "SELECT layer, feature, r, coefficient FROM features WHERE r > 0 AND support >= (SELECT floor FROM fits) "
        "QUALIFY row_number() OVER (PARTITION BY layer ORDER BY r DESC) <= 3 OR (layer, feature) IN ((8, 41), (22, 7))"
    )
    rows = []
    for one in top.itertuples():
        for scale in (1.0, 2.0, 4.0, 8.0):
            gain, loss = 1, 1
            if not noise and (one.layer, one.feature) == HIGHEST_R:
                gain, loss = 0, int(scale * 2)
            if not noise and (one.layer, one.feature) == BEST_EFFECT:
                gain, loss = int(scale * 1.5), 0
            rows.append(
                {"layer": one.layer, "feature": one.feature, "r": one.r, "scale": scale, "coefficient": one.coefficient,
                 "n": 60, "unsteered_rate": 0.65, "steered_rate": 0.65 + (gain - loss) / 60, "positive_flips": gain,
                 "negative_flips": loss, "p": 0.5 ** (gain + loss - 1) if gain * loss == 0 else 1.0}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _set(run: str, name: str) -> dict:
    layer, feature = BEST_EFFECT if name == "V" else HIGHEST_R
    config = _config("sentiment")
    body = {
        "format": "corrsteer-steering-set", "version": 1, "model": config["model"], "model_fingerprint": "m0",
        "saes": config["saes"], "scale": 1.0, "name": name, "run": run, "task": "sentiment", "style": config["style"],
        "rows": [{"layer": layer, "feature": feature, "coefficient": 2.5, "enabled": True, "note": ""}],
    }  # fmt: skip
    return {"name": name, "strategy": name, "created": NOW, "body": json.dumps(body)}


def _evaluation(samples: pd.DataFrame, noise: bool, classes: bool) -> dict:
    test = samples[samples["split"] == "test"]
    n, gained, lost = len(test), (1, 1) if noise else (10, 1), None
    gain, loss = gained
    rate = 0.65

    def against(gain: int, loss: int, p: float) -> dict:
        return {
            "n": n, "unsteered_rate": rate, "steered_rate": rate + (gain - loss) / n,
            "unsteered_interval": [0.52, 0.76], "steered_interval": [0.67, 0.88],
            "positive_flips": gain, "negative_flips": loss, "changed": gain + loss,
            "ser": loss / (gain + loss) if gain + loss else lost, "negative_share": loss / max(1, gain + loss), "p": p,
            "effect": (gain - loss) / n,
        }  # fmt: skip

    summary = {
        "task": "sentiment", "split": "test", "scale": 1.0, **against(gain, loss, 1.0 if noise else 0.012),
        "fluency": {"unsteered": 0.9, "steered": 0.8},
        "chosen_on": False, "dtype": "float32",
        "controls": {"random 1": against(1, 1, 1.0), "random 2": against(1, 0, 1.0),
                     "sign flipped": against(0, 9, 0.004)},
    }  # fmt: skip
    if classes:
        summary |= {**OF_CLASSES, "matched": {"matched 1": against(2, 1, 1.0)}}
    rows = pd.DataFrame(
        {"sample": test["sample"], "prompt": test["prompt"], "target": test["target"], "unsteered": test["output"],
         "steered": " Positive", "outcome_unsteered": test["outcome"], "outcome_steered": 1.0}
    )  # fmt: skip
    return {
        "name": "V", "task": "sentiment", "split": "test", "scale": 1.0, "n": n, "created": NOW,
        "summary": json.dumps(summary), "samples": rows.to_json(orient="records"),
    }  # fmt: skip
