"""The rows about memory: it must grow neither with steps nor with samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.measure import Row, child, ratios


@dataclass(frozen=True)
class Sizes:
    """What is collected in processes of their own."""

    subject: str = "embedded"
    prompts: int = 64
    steps: tuple[int, int] = (24, 240)
    samples: tuple[int, int] = (200, 2000)
    repeats: int = 1


QUICK = Sizes("tiny", 4, (2, 20), (4, 40))


def peak(sizes: Sizes) -> Iterator[Row]:
    """Peak resident memory of a collection, against one with a tenth of the steps, or of the samples."""
    few, many = sizes.steps
    yield _compared(f"peak memory, {many} against {few} steps", sizes, (sizes.prompts, few), (sizes.prompts, many))
    few, many = sizes.samples
    yield _compared(f"peak memory, {many:,} against {few:,} samples", sizes, (few, 1), (many, 1))


def _compared(name: str, sizes: Sizes, less: tuple[int, int], more: tuple[int, int]) -> Row:
    low: list[int] = []
    high: list[int] = []
    for _ in range(sizes.repeats):
        for of, peaks in ((less, low), (more, high)):
            samples, new = of
            peaks.append(child("collect", sizes.subject, str(samples), str(new))["peak"])
    detail = f"{min(low) / 2**20:,.0f} MiB and {max(high) / 2**20:,.0f} MiB, {sizes.repeats} process each"
    return Row(name, "each other", *ratios(high, low), 1.1, detail=detail)
