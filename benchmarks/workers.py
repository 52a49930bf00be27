"""The rows about several workers: how much faster two are, how many one process can serve, what a sample costs in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import subjects
from benchmarks.measure import Row, child, interleaved, ratios, shown
from corrsteer_core.engine.answer_work import Answers
from corrsteer_core.engine.batches import answers
from corrsteer_core.models.conditions import threads
from corrsteer_core.workers.parts import Parts
from corrsteer_core.workers.pool import done, spread_over
from corrsteer_core.workers.ray_pool import RayPool
from corrsteer_core.workers.units import Finished, Place, Unit


@dataclass(frozen=True)
class Sizes:
    """What is computed for each row."""

    prompts: int = 256
    steps: int = 24
    repeats: int = 3
    many: tuple[int, ...] = (8, 64)
    """Workers that only wait."""
    units: int = 10
    """For each of them."""
    seconds: float = 0.5
    """That each waits."""
    samples: tuple[int, int] = (1_000, 100_000)


QUICK = Sizes(8, 2, 1, (2,), 2, 0.05, (64, 256))


def spread(sizes: Sizes) -> Iterator[Row]:
    """Two workers of one thread each against one, and many that only wait against the time that they wait."""
    yield _two(sizes)
    for count in sizes.many:
        yield _waiting(count, sizes)
    yield from _samples(sizes)


def _two(sizes: Sizes) -> Row:
    made = subjects.embedded()
    prompts = made.task(sizes.steps, sizes.prompts)

    def collected(pool: RayPool) -> Callable[[], None]:
        def run() -> None:
            with spread_over(pool):
                for _ in answers(made.model, prompts, max_new_tokens=sizes.steps, saes=made.saes, batch_size=16):
                    pass

        return run

    with threads(1), RayPool(3):  # room for both; who waits takes no time
        one, two = RayPool(1), RayPool(2)
        seconds = interleaved({"one": collected(one), "two": collected(two)}, sizes.repeats)
        one.end_workers()
        two.end_workers()
    detail = f"{sizes.prompts} prompts of {sizes.steps} tokens, {len(made.saes)} SAEs; {shown(seconds)}"
    speed = ratios(seconds["one"], seconds["two"])
    return Row("two workers of one thread", "one worker", *speed, 1.8, higher_is_better=True, detail=detail)


class Waiting:
    """A worker that only waits, and keeps a part as a real one does."""

    def __init__(self, place: Place) -> None:
        pass

    def about(self) -> dict[str, Any]:
        return {"pid": 0, "processor": "none", "torch": "none"}

    def do(self, held: list[Any], unit: Unit) -> Finished:
        time.sleep(unit.batch[0] / 1000)
        return Finished(unit.number, Parts(Path(unit.folder)).write(unit.number, b"waited"))


class Inventing(Waiting):
    """A worker that makes up what a model would answer: one token, and one in forty features."""

    def __init__(self, place: Place) -> None:
        self._job, self._work = "", None

    def do(self, held: list[Any], unit: Unit) -> Finished:
        if self._job != unit.job:  # as a real one: fetched once a job
            import ray

            self._job, self._work = unit.job, ray.get(held[0])
        work: Any = self._work
        count = len(unit.batch)
        random = torch.Generator().manual_seed(unit.number)
        pooled = [torch.rand(count, ref.d_sae, generator=random) for ref in work.pooled]
        invented = Answers(
            unit.batch,
            [[[70 + place % 5]] for place in unit.batch],
            [z * (z > 0.975) for z in pooled],
            leads=np.ones((count, 1)),
        )
        data = work.encode([invented])
        return Finished(unit.number, Parts(Path(unit.folder)).write(unit.number, data))


@dataclass(frozen=True)
class _Nothing:
    """Work whose batches say for how many milliseconds to wait."""

    sae_refs: tuple = ()

    def identity(self) -> bytes:
        return b"waiting"

    def ready(self, model: Any, saes: Sequence[Any], on_progress: Any) -> Any:
        raise NotImplementedError("only workers wait")

    def encode(self, results: Sequence[Any]) -> bytes:
        return b""

    def decode(self, data: bytes) -> list[bytes]:
        return [data]


def _waiting(count: int, sizes: Sizes) -> Row:
    model = subjects.tiny().model
    batches = [[int(1000 * sizes.seconds)]] * (count * sizes.units)

    def run() -> None:
        assert len(list(done(model, (), _Nothing(), batches))) == len(batches)

    with RayPool(count, kind=Waiting) as pool, spread_over(pool):
        seconds = interleaved({"all": run}, sizes.repeats)["all"]
    ideal = sizes.units * sizes.seconds
    share = ratios([ideal] * len(seconds), seconds)
    rate = len(batches) / min(seconds)
    detail = f"{len(batches)} units of {sizes.seconds:g} s; {rate:.0f} units a second, {shown({'all': seconds})}"
    return Row(f"{count} workers that only wait", "perfect sharing", *share, 0.9, higher_is_better=True, detail=detail)


def _samples(sizes: Sizes) -> Iterator[Row]:
    few, many = (child("store", str(samples)) for samples in sizes.samples)
    names = f"{sizes.samples[1]:,} against {sizes.samples[0]:,} samples"
    for part in ("storing and publishing", "resuming and planning", "reading"):
        ratio = many[part] / few[part]
        detail = f"{1000 * few[part]:.3f} ms and {1000 * many[part]:.3f} ms a sample"
        yield Row(f"{part}, cost of a sample, {names}", "each other", ratio, (ratio, ratio), 1.1, detail=detail)
    shared = [child("driver", str(samples))["peak"] for samples in sizes.samples]
    ratio = shared[1] / shared[0]
    detail = f"{shared[0] / 2**20:,.0f} MiB and {shared[1] / 2**20:,.0f} MiB"
    yield Row(f"peak memory of sharing out, {names}", "each other", ratio, (ratio, ratio), 1.1, detail=detail)
    for name, key in (("storing", "peak"), ("storing, then reading a layer", "read")):
        ratio = many[key] / few[key]
        detail = f"{few[key] / 2**20:,.0f} MiB and {many[key] / 2**20:,.0f} MiB"
        yield Row(f"peak memory of {name}, {names}", "each other", ratio, (ratio, ratio), 1.1, detail=detail)
