"""The row about refitting: a cache of 50 million rows against dense products from memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.fabricate import make_run
from benchmarks.measure import Row, child, ratios
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import cache_dir

GIB = 2**30


@dataclass(frozen=True)
class Sizes:
    """The cache that is fitted."""

    samples: int = 4000
    layers: int = 26
    d_sae: int = 16_384
    rows: int = 50_000_000
    dense_layers: int = 4
    """Layers computed densely in every repeat; the others would take the same."""
    repeats: int = 3
    disk: int = 3 * GIB
    """Free space asked for."""


QUICK = Sizes(60, 2, 64, 2000, 1, 1, GIB)


def fit_from_cache(sizes: Sizes) -> Iterator[Row]:
    """Seconds and memory of a refit, in processes of their own that take turns with the rival's."""
    free = shutil.disk_usage(cache_dir()).free
    if free < sizes.disk:
        raise CorrSteerError(
            f"The cache to be fitted needs {sizes.disk / GIB:.0f} GiB in {cache_dir()}, where {free / GIB:.1f} GiB are free."
        )
    run = make_run(samples=sizes.samples, layers=sizes.layers, d_sae=sizes.d_sae, rows=sizes.rows)
    child("fit", run)  # not counted; leaves the fit that the rival's r is held against
    fits, denses = [], []
    for _ in range(sizes.repeats):
        fits.append(child("fit", run))
        denses.append(child("dense", run, str(sizes.dense_layers)))
    difference = max(dense["difference"] for dense in denses)
    if difference > 1e-9:
        raise CorrSteerError(f"The fit's correlations differ from the dense ones by {difference:.1e}; they must not.")
    seconds = [fit["seconds"] for fit in fits]
    whole = [sizes.layers * dense["seconds"] for dense in denses]
    product = [sizes.layers * dense["product"] for dense in denses]
    reading = median(fit["reading"] for fit in fits)
    name = f"fit from a cache of {sizes.rows / 1e6:g} M rows"
    split = f"reading the cache {reading / median(seconds):.0%} of the time, the rest statistics and permutations"
    row = Row(
        name,
        "the same numbers by dense float64 products from memory, layer by layer",
        *ratios(seconds, whole),
        1.0,
        detail=f"fit {median(seconds):.1f} s, dense {median(whole):.1f} s without making the matrices; "
        f"largest difference in r {difference:.0e}",
    )
    yield row if row.met else row.because(split)
    bare = Row(
        name,
        "one dense float64 product y'Z a layer from memory, and nothing else",
        *ratios(seconds, product),
        1.0,
        detail=f"product {median(product):.1f} s: no supports, coefficients or permutations, which the fit has",
    )
    yield bare if bare.met else bare.because(split)
    peaks = [fit["peak"] / GIB for fit in fits]
    dense = max(dense["peak"] for dense in denses) / GIB
    yield Row(
        name + ", peak memory",
        "-",
        median(peaks),
        (min(peaks), max(peaks)),
        2.0,
        unit="GiB",
        detail=f"dense {dense:.2f} GiB",
    )
