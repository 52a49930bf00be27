"""How each feature's pooled activation goes with the outcome: r, coefficient, frequencies (see `sparse_columns` for Z and y)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csc_array

from corrsteer_core.correlation.sparse_columns import IntArray, checked, mean_over, moments_of, pearson
from corrsteer_core.statistics.rates import FloatArray


@dataclass(frozen=True)
class FeatureStats:
    """One layer's features beside the outcome; every field has shape (features,). A share over no samples is nan."""

    r: FloatArray  # Pearson r of z and y, silent samples as z = 0; nan where z or y is constant
    c: FloatArray  # coefficient: mean z over the samples with y > 0; nan if there are none
    support: IntArray  # samples in which the feature fired (z != 0)
    frequency: FloatArray  # support / samples
    frequency_correct: FloatArray  # share of the samples with y > 0.5 in which it fired
    frequency_incorrect: FloatArray  # share of the other samples in which it fired


def correlate(Z: csc_array, y: ArrayLike) -> FeatureStats:
    """Correlation, coefficient and frequencies of every feature of one layer.

    `Z`: sparse (samples, features); `y`: (samples,). Raises CorrSteerError for lengths that
    differ, no samples, values that are not finite, or outcomes outside [0, 1].
    """
    Z, y = checked(Z, y)
    moments = moments_of(Z)
    success, rewarded = y > 0.5, y > 0
    return FeatureStats(
        r=pearson(Z, y, moments),
        c=mean_over(Z, Z.data, rewarded),
        support=moments.support,
        frequency=moments.support / len(y),
        frequency_correct=mean_over(Z, np.ones_like(Z.data), success),
        frequency_incorrect=mean_over(Z, np.ones_like(Z.data), ~success),
    )
