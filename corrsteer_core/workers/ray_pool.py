"""Workers through Ray: one actor per GPU, or per so many cores, on this machine or on a cluster that is there.

At least once and idempotent is exactly once: a batch whose worker died is given out again, and its part, written anew, is
the same file. Only this process stores results, in the order of the batches.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.conditions import Conditions
from corrsteer_core.models.limits import conditions_of
from corrsteer_core.models.loading import EMBEDDED, Model
from corrsteer_core.workers.actor import Worker
from corrsteer_core.workers.cluster import joined
from corrsteer_core.workers.job import LATE, Job
from corrsteer_core.workers.parts import Parts
from corrsteer_core.workers.units import Place, Unit
from corrsteer_core.workers.work import OnProgress, Work, job_name

JOINING = 120.0
"""Seconds that machines of a cluster may take to join it, where so many workers are asked for."""
T = TypeVar("T")
log = logging.getLogger("corrsteer")


class RayPool:
    """So many workers of one model. Use as a context manager: leaving it ends them.

    `count` None is one per GPU of the cluster, or one per so many of its cores as the run's threads; `kind` is the class of
    the actors. Raises CorrSteerError
    where Ray is not installed or its cluster not reached.
    """

    def __init__(self, count: int | None, address: str | None = None, kind: type = Worker) -> None:
        self.count, self.address, self.kind = count, address, kind
        self._place: Place | None = None
        self._workers: list[Any] = []
        self._about: dict[str, Any] = {}
        self._open = ExitStack()
        self._said_fewer = False

    def __enter__(self) -> RayPool:
        self._open.enter_context(joined(self.count, self.address))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_workers()
        self._open.close()

    def conditions(self, model: Model) -> Conditions:
        """Those of the run; the cores of this machine are shared out among its workers."""
        asked = conditions_of(model)
        if asked.device != "cpu" or self.address or not self.count:
            return asked
        fitting = min(asked.threads, max(1, torch.get_num_threads() // self.count))
        if model.conditions and fitting < asked.threads and not self._said_fewer:
            self._said_fewer = True
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
        run = Job(workers, self._another, self._check_newcomer, work, units, parts)
        try:
            for number in units:
                while (data := run.part(number)) is None:
                    run.step()
                    on_progress(float(run.ahead))
                yield from work.decode(data)
        finally:
            if run.running:  # left before its end: what nobody waits for would keep the next job waiting
                self.end_workers()
        parts.remove()

    def _workers_for(self, model: Model, conditions: Conditions) -> list[Any]:
        dtype = str(model.dtype).removeprefix("torch.")
        place = Place(_everywhere(model.name), model.fingerprint, dtype, model.quantized, conditions)
        if self._workers and place == self._place:
            return self._workers
        self.end_workers()
        self._place = place
        self._workers = self._begun(place)
        return self._workers

    def _begun(self, place: Place) -> list[Any]:
        """Workers, most of them there. Raises CorrSteerError where there is no room for as many as were asked for, and for
        those that would not compute the same numbers."""
        import ray

        kind, each_takes = self._needs(place)
        room = self._room(kind, each_takes)
        wanted = self.count or max(1, room)
        if wanted > room:
            cores = "core" if each_takes == 1 else "cores"
            each = "a GPU of its own" if kind == "GPU" else f"{each_takes} {cores}"
            raise CorrSteerError(f"{wanted} workers were asked for; each takes {each}, and there is room for {room}.")
        workers = [self._one(place) for _ in range(wanted)]
        self._about = {}
        # All that are there soon are looked at before any of them computes; who is late, or dies, is the job's matter.
        asked = [worker.about.remote() for worker in workers]
        for there in ray.wait(asked, num_returns=len(asked), timeout=LATE)[0]:
            with suppress(ray.exceptions.RayError):
                self._check_newcomer(ray.get(there))
        return workers

    def _room(self, kind: str, each_takes: int) -> int:
        """Workers that fit. Machines of a cluster that were started with this command may join a little later."""
        import ray

        until = time.monotonic() + (JOINING if self.address and self.count else 0)
        told = False
        while True:
            room = int(ray.cluster_resources().get(kind, 0)) // each_takes
            if room >= (self.count or 0) or time.monotonic() >= until:
                return room
            if not told:
                log.warning(
                    "there is room for %d of %d workers; waiting for machines to join the cluster", room, self.count
                )
                told = True
            time.sleep(1)

    def _check_newcomer(self, about: dict[str, Any]) -> None:
        """Raise CorrSteerError for a worker that would not compute the numbers of the first one."""
        self._about = self._about or about
        _check_alike([self._about, about])

    def _one(self, place: Place) -> Any:
        """A worker, on its way: what is asked of it waits until it is there. One that dies is not started again by Ray, which
        would let it fail at once meanwhile; another takes its place."""
        import ray

        kind, each_takes = self._needs(place)
        cores, gpus = (0, each_takes) if kind == "GPU" else (each_takes, 0)
        return ray.remote(num_cpus=cores, num_gpus=gpus, max_restarts=0, max_task_retries=0)(self.kind).remote(place)

    def _needs(self, place: Place) -> tuple[str, int]:
        """What a worker takes, in Ray's words: a GPU, or cores; a Ray of our own has as many of these as workers."""
        if place.conditions.device == "cuda":
            return "GPU", 1
        return "CPU", place.conditions.threads if self.address else 1

    def _another(self, dead: Any) -> Any:
        """A new worker in place of one that died."""
        assert self._place is not None
        self._workers[self._workers.index(dead)] = fresh = self._one(self._place)
        return fresh

    def end_workers(self) -> None:
        """End them; others begin with the next job."""
        import ray

        for worker in self._workers:
            with suppress(Exception):
                ray.kill(worker, no_restart=True)
        self._workers = []


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
