"""How far a ranking can be trusted, asked for when wanted: intervals of r and c, and convergence with more samples.

Answered from the cache, without the model. What chance reaches is part of every fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy.sparse import csc_array

from corrsteer_core.correlation import bootstrap, convergence_points
from corrsteer_core.runs.fit import fitted_floor, sae_sizes, training_activations, training_outcomes
from corrsteer_core.storage.reading import Reader

RESAMPLES = 1000
TOP = 10
"""Features whose stability is followed."""
SHARES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)


def intervals(run: str, features: pd.DataFrame, *, resamples: int = RESAMPLES) -> pd.DataFrame:
    """The features with r_low, r_high, coefficient_low, coefficient_high: 95% bootstrap intervals over training samples.

    `features` needs layer and feature; a few hundred rows at most, since their activations are made dense.
    """
    bounds = pd.DataFrame(
        np.nan, index=features.index, columns=["r_low", "r_high", "coefficient_low", "coefficient_high"]
    )
    with Reader(run) as store:
        y = training_outcomes(store).to_numpy()
        sizes = sae_sizes(store)
        for layer, rows in features.groupby("layer"):
            pooled = training_activations(store, int(layer), sizes[int(layer)])[:, rows["feature"].to_numpy()]
            found = bootstrap.bootstrap(pooled, y, resamples=resamples, seed=0)
            bounds.loc[rows.index] = np.column_stack([found.r.low, found.r.high, found.c.low, found.c.high])
    return features.join(bounds)


def convergence(run: str, *, top: int = TOP) -> pd.DataFrame:
    """What fewer samples would have found: size, overlap (with the top features of all samples), best_r.

    Sizes are SHARES of the training samples. The floor of support is the fit's at every size.
    Raises CorrSteerError for a run that has not been fitted.
    """
    with Reader(run) as store:
        floor = fitted_floor(store)
        y = training_outcomes(store).to_numpy()
        sizes = sorted({max(3, round(share * len(y))) for share in SHARES})
        points = convergence_points.convergence(_Layers(store), y, sizes, seed=0, top=top, floor=floor)
    return pd.DataFrame([vars(point) for point in points])


class _Layers(Mapping[int, csc_array]):
    """Training activations by layer, read when asked for: with many layers there is no room for all. Keeps the last."""

    def __init__(self, store: Reader) -> None:
        self._store, self._sizes = store, sae_sizes(store)
        self._last: tuple[int, csc_array] | None = None

    def __getitem__(self, layer: int) -> csc_array:
        if self._last is None or self._last[0] != layer:
            self._last = None  # before the next is read: one at a time
            self._last = (layer, training_activations(self._store, layer, self._sizes[layer]))
        return self._last[1]

    def __iter__(self) -> Iterator[int]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)
