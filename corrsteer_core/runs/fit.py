"""From a run's cache to its ranked features, without the model: refitting takes seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csc_array

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.correlation import chance, feature_columns, sparse_columns
from corrsteer_core.correlation.within_class import WithinClass
from corrsteer_core.storage.reading import Reader
from corrsteer_core.storage.writing import Writer
from corrsteer_core.tasks import SCORERS, TASKS, Item, right_classes

PERMUTATIONS = 200
TRAINING = "split = 'train' AND outcome IS NOT NULL"
CHUNK = 64
"""Of 2,048 activations, that are read from the file at once."""
FEWEST_PERMUTATIONS = 19  # that can show a level of 0.95 (chance.permutation_levels)


@dataclass(frozen=True)
class FitSettings:
    """What may change without collecting again."""

    floor: int | None = None
    """Least number of training samples in which a ranked feature fired; None: 3% of them, at least 5."""
    permutations: int = PERMUTATIONS
    """Random reorderings of the outcomes, to see what r chance reaches."""
    seed: int = 0

    def floor_for(self, n: int) -> int:
        """The floor for n training samples."""
        return max(5, round(0.03 * n)) if self.floor is None else self.floor

    def __post_init__(self) -> None:
        if self.floor is not None and self.floor < 1:
            raise CorrSteerError(f"A floor of {self.floor} samples was asked for; ask for at least 1.")
        if self.permutations < FEWEST_PERMUTATIONS:
            raise CorrSteerError(
                f"{self.permutations} permutations were asked for; it takes at least {FEWEST_PERMUTATIONS} to show what chance "
                f"reaches in 5 of 100 runs."
            )


def fit(store: Writer, settings: FitSettings = FitSettings(), progress: Progress = silent) -> None:
    """Correlate every feature of a collected run with the outcome; writes `features`, `fits` and `chance`.

    Where the task has classes, r within the class of the right answer and its permutation p stand beside r.
    Raises CorrSteerError while answers are missing: the longest prompts are answered first, so a part is no sample.
    """
    _check_collected(store)
    outcomes = training_outcomes(store)
    y = outcomes.to_numpy()
    n, floor = len(y), settings.floor_for(len(y))
    layers = sae_sizes(store)
    frames: list[pd.DataFrame] = []

    def one_by_one() -> Iterator[tuple[int, csc_array]]:
        """Each layer's activations in turn: with many layers there is no room for all."""
        for done, (layer, d_sae) in enumerate(layers.items()):
            progress("correlating", done, len(layers))
            pooled = training_activations(store, layer, d_sae)
            frames.append(feature_columns.rows_of_layer(layer, pooled, y, within))
            yield layer, pooled

    within = _within(store, y, settings, floor)
    levels = chance.permutation_levels(
        one_by_one(), y, permutations=settings.permutations, seed=settings.seed, floor=floor
    )
    features = pd.concat(frames, ignore_index=True)
    ranked = (features["support"] >= floor) & features["r"].notna()
    features = feature_columns.with_columns_of_run(features, ranked.to_numpy(), n)
    summary = {
        "samples": n,
        "success_rate": float(y.mean()),
        "constant": sparse_columns.is_constant(y),
        "floor": floor,
        "permutations": settings.permutations,
        "seed": settings.seed,
    }
    with store.transaction():  # numbers of two fits must never stand beside each other
        store.replace("features", features[features["support"] > 0])
        store.replace("chance", _chance(levels, within, features[ranked]))
        store.replace("fits", pd.DataFrame([summary]))
    progress("correlating", len(layers), len(layers))


def training_outcomes(store: Reader | Writer) -> pd.Series:
    """Outcomes of the training samples in their stored order. Raises CorrSteerError if there are too few."""
    frame = store.query(
        "SELECT sample, outcome FROM samples WHERE split = 'train' AND outcome IS NOT NULL ORDER BY sample"
    )
    if len(frame) < 3:
        raise CorrSteerError(
            f"The run {store.run} has {len(frame)} training samples; a correlation needs at least 3, and a useful one "
            f"hundreds. Raise the limit or give more data."
        )
    return frame.set_index("sample")["outcome"].astype(float)


def training_classes(store: Reader | Writer) -> np.ndarray | None:
    """The class of each training sample's right answer, (samples,) in the order of `training_outcomes`.

    None where some item has no class or all have the same, and where the items were not kept whole. Without choices an item's
    class is told by the rule that scores it (of a named task by its own): a scorer that is none of the rules tells none.
    """
    config = json.loads(store.query("SELECT config FROM runs")["config"][0])
    rows = store.query("SELECT item FROM samples WHERE split = 'train' AND outcome IS NOT NULL ORDER BY sample")
    bodies = [json.loads(item or "{}") for item in rows["item"].fillna("")]
    if not all(body.get("prompt") for body in bodies):
        return None  # a release of before items were kept
    items = [Item(**{**body, "choices": tuple(body["choices"])}) for body in bodies]
    task = TASKS.get(config["task"])
    scorer = SCORERS.get(config["scorer"]) if config.get("scorer") else task.scorer if task else None
    found = right_classes(scorer, items)
    return None if found is None else np.array(found)


def _within(store: Writer, y: np.ndarray, settings: FitSettings, floor: int) -> WithinClass | None:
    """What works out r within the class, where there are classes."""
    classes = training_classes(store)
    if classes is None:
        return None
    return WithinClass(y, classes, permutations=settings.permutations, seed=settings.seed, floor=floor)


def _check_collected(store: Writer) -> None:
    counts = store.query("SELECT count(*) AS samples, count(outcome) AS answered FROM samples").iloc[0]
    if counts["answered"] < counts["samples"]:
        raise CorrSteerError(
            f"The run {store.run} has {counts['answered']:,} of its {counts['samples']:,} samples answered; run 'fit' again "
            f"with its settings to finish them first."
        )


def fitted_floor(store: Reader | Writer) -> int:
    """The floor that the run was fitted with. Raises CorrSteerError when it has not been fitted."""
    floors = store.query("SELECT floor FROM fits")["floor"]
    if floors.empty:
        raise not_fitted(store.run)
    return int(floors.iloc[0])


def not_fitted(run: str) -> CorrSteerError:
    """What is said of a run that has samples and no fit."""
    return CorrSteerError(f"The run {run} has been collected but not fitted yet; run 'fit' again with its settings.")


def sae_sizes(store: Reader | Writer) -> dict[int, int]:
    """Layer -> number of features of its SAE, as the run's configuration has it."""
    frame = store.query(
        "SELECT (sae->>'layer')::INTEGER AS layer, (sae->>'d_sae')::INTEGER AS d_sae "
        "FROM (SELECT unnest(from_json(config->'saes', '[\"JSON\"]')) AS sae FROM runs) ORDER BY layer"
    )
    return dict(zip(frame["layer"].tolist(), frame["d_sae"].tolist(), strict=True))


def training_activations(store: Reader | Writer, layer: int, d_sae: int) -> csc_array:
    """Pooled activations of the training samples at a layer, sparse (samples, d_sae), rows as in `training_outcomes`."""
    n = store.query(f"SELECT count(*) AS n FROM samples WHERE {TRAINING}")["n"][0]
    found = csc_array(_training_values(store, layer), shape=(int(n), d_sae))
    found.data = found.data.astype(np.float64)
    return found


def _training_values(store: Reader | Writer, layer: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Values of the activations that are not silent, (n,) float32, with their rows and features; 12 bytes each in all."""
    most = store.query("SELECT count(*) AS n FROM activations WHERE layer = ?", [layer])["n"][0]
    rows, features = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
    values = np.empty(most, dtype=np.float32)
    found = store.connection.execute(
        f"WITH chosen AS (SELECT sample, row_number() OVER (ORDER BY sample) - 1 AS place FROM samples WHERE {TRAINING}) "
        "SELECT place, feature, value FROM activations JOIN chosen USING (sample) WHERE layer = ?",
        [layer],
    )
    filled = 0
    while len(chunk := found.fetch_df_chunk(CHUNK)):  # the whole answer at once would take as much again
        here = slice(filled, filled := filled + len(chunk))
        rows[here], features[here], values[here] = (chunk[name] for name in ("place", "feature", "value"))
    return values[:filled], (rows[:filled], features[:filled])


def _chance(levels: chance.PermutationLevels, within: WithinClass | None, ranked: pd.DataFrame) -> pd.DataFrame:
    """What the best feature reaches when outcomes are permuted, per layer and (layer NULL) over all.

    The same of r within the class in the columns `within_...`, which are NULL without classes.
    """
    found = _maxima_rows(levels, ranked, "r")
    if within is None:
        return found
    of_class = _maxima_rows(within.levels(), ranked, "r_within").add_prefix("within_")
    return found.merge(of_class.rename(columns={"within_layer": "layer"}), on="layer", how="left")


def _maxima_rows(levels: chance.PermutationLevels, ranked: pd.DataFrame, column: str) -> pd.DataFrame:
    columns = ["layer", "level", "median", "best", "p"]
    known = ranked[ranked[column].notna()]
    if known.empty:
        return pd.DataFrame(columns=columns).astype({"layer": "Int16"})
    best = known.groupby("layer")[column].max()
    rows: list[tuple[int | None, float, float, float, float]] = [
        (layer, maxima.level_r, float(np.median(maxima.max_r)), best[layer], maxima.p_of_best(best[layer]))
        for layer, maxima in levels.by_layer.items()
        if layer in best.index
    ]
    overall, top = levels.overall, float(known[column].max())
    rows.append((None, overall.level_r, float(np.median(overall.max_r)), top, overall.p_of_best(top)))
    return pd.DataFrame(rows, columns=columns).astype({"layer": "Int16"})
