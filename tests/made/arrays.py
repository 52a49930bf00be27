"""Random arrays that stand for activations."""

import numpy as np
from scipy.sparse import csc_array, random_array


def sparse(n: int, m: int, *, seed: int, density: float = 0.2) -> csc_array:
    """Random non-negative activations, (n, m)."""
    rng = np.random.default_rng(seed)
    return csc_array(random_array((n, m), density=density, rng=rng, data_sampler=lambda size: rng.gamma(2, size=size)))
