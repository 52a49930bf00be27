"""Workers through Ray: one actor per GPU, or per so many cores, on this machine or on a cluster that is there.

At least once and idempotent is exactly once: a batch whose worker died is given out again, and its part, written anew, is
the same file. Only this process stores results, in the order of the batches.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.models.conditions import Conditions
from corrsteer_core.models.limits import conditions_of
from corrsteer_core.models.loading import EMBEDDED, Model
from corrsteer_core.workers.actor import Worker
from corrsteer_core.workers.cluster import joined
from corrsteer_core.workers.job import Job
from corrsteer_core.workers.parts import Parts
from corrsteer_core.workers.units import Place, Unit
from corrsteer_core.workers.work import OnProgress, Work, job_name

T = TypeVar("T")
log = logging.getLogger("corrsteer")


BEGINNING = 600
"""Seconds that workers may take to be there."""


class RayPool:
    """So many workers of one model. Use as a context manager: leaving it ends them.

    `count` None is one per GPU of the cluster, or one per so many of its cores as the run's threads. Raises CorrSteerError
    where Ray is not installed or its cluster not reached.
    """

    def __init__(self, count: int | None, address: str | None = None) -> None:
        self.count, self.address = count, address
        self._place: Place | None = None
        self._workers: list[Any] = []
        self._open = ExitStack()

    def __enter__(self) -> RayPool:
        self._open.enter_context(joined(self.count, self.address))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_workers()
        self._open.close()

    def conditions(self, model: Model) -> Conditions:
        """Those of the run; the cores of this machine are shared out among its workers."""
        asked = conditions_of(model)
        if asked.device != "cpu" or self.address or not self.count:
            return asked
        fitting = min(asked.threads, max(1, torch.get_num_threads() // self.count))
        if model.conditions and fitting < asked.threads:
            log.warning(
                "The run was begun with %d threads in a process; %d workers have %d each here, so that the last digits of "
                "numbers may differ.", asked.threads, self.count, fitting,
            )  # fmt: skip
        return replace(asked, threads=fitting)

    def results(
        self, model: Model, work: Work[T], batches: Sequence[list[int]], only: Sequence[int], on_progress: OnProgress
    ) -> Iterator[T]:
        """The results of some batches, in their order; those that were finished before are read from their files."""
        conditions = self.conditions(model)
        job = job_name(model, conditions, work, batches)
        parts = Parts.begun(job)
        workers = self._workers_for(model, conditions)
        mark = parts.mark
        units = {number: Unit(job, number, list(batches[number]), str(parts.folder), mark) for number in only}
        run = Job(workers, self._another, work, units, parts)
        try:
            for number in units:
                while (data := run.part(number)) is None:
                    run.step()
                    on_progress(float(run.ahead))
                yield from work.decode(data)
        finally:
            if run.running:  # left before its end: what nobody waits for would keep the next job waiting
                self._end_workers()
        parts.remove()

    def _workers_for(self, model: Model, conditions: Conditions) -> list[Any]:
        place = Place(_everywhere(model.name), model.fingerprint, str(model.dtype).removeprefix("torch."), conditions)
        if self._workers and place == self._place:
            return self._workers
        self._end_workers()
        self._workers, self._place = _begun(place, self.count, bool(self.address)), place
        return self._workers

    def _another(self, dead: Any) -> Any:
        """A new worker in place of one that died."""
        assert self._place is not None
        self._workers[self._workers.index(dead)] = fresh = _one(self._place, bool(self.address))
        return fresh

    def _end_workers(self) -> None:
        import ray

        for worker in self._workers:
            with suppress(Exception):
                ray.kill(worker, no_restart=True)
        self._workers = []


def _begun(place: Place, count: int | None, on_cluster: bool) -> list[Any]:
    """Workers, asked who they are. Raises CorrSteerError where they would not compute the same numbers."""
    import ray

    cuda = place.conditions.device == "cuda"
    cores = place.conditions.threads if on_cluster else 1
    there = ray.cluster_resources()
    room = int(there.get("GPU", 0)) if cuda else int(there.get("CPU", 0)) // cores
    wanted = count or max(1, room)
    if wanted > room:
        each = "a GPU of its own" if cuda else f"{cores} {'core' if cores == 1 else 'cores'}"
        raise CorrSteerError(f"{wanted} workers were asked for; each takes {each}, and there is room for {room}.")
    workers = [_one(place, on_cluster) for _ in range(wanted)]
    try:
        about = ray.get([worker.about.remote() for worker in workers], timeout=BEGINNING)
    except ray.exceptions.RayError as error:
        raise CorrSteerError(
            f"Not all of the {wanted} workers could be started ({first_line(error)}); ask for fewer."
        ) from error
    _check_alike(about)
    return workers


def _one(place: Place, on_cluster: bool) -> Any:
    """A worker, on its way: what is asked of it waits until it is there. One that dies is not started again by Ray, which
    would let it fail at once meanwhile; another takes its place."""
    import ray

    cuda = place.conditions.device == "cuda"
    cores = 0 if cuda else place.conditions.threads if on_cluster else 1
    return ray.remote(num_cpus=cores, num_gpus=int(cuda), max_restarts=0, max_task_retries=0)(Worker).remote(place)


def _check_alike(about: Sequence[dict[str, Any]]) -> None:
    """Raise CorrSteerError for workers on different processors, or with different PyTorch: their numbers would differ."""
    for what, name in (("processor", "processors"), ("torch", "versions of PyTorch")):
        kinds = sorted({str(one[what]) for one in about})
        if len(kinds) > 1:
            raise CorrSteerError(
                f"The workers have different {name} ({', '.join(kinds)}), so the numbers of one run would depend on who "
                f"computed them; use machines of one kind."
            )


def _everywhere(name: str) -> str:
    """A model's name as any worker finds it: folders by their whole path."""
    return str(Path(name).resolve()) if name != EMBEDDED and Path(name).exists() else name
