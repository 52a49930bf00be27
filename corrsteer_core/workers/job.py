"""The batches of one job on their way: which worker has which, what is there, what failed how often."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.workers.parts import Parts
from corrsteer_core.workers.units import Finished, Unit
from corrsteer_core.workers.work import Work

log = logging.getLogger("corrsteer")

TRIES = 3
"""Times that a batch may fail before it ends the job."""
DEATHS = 10
"""Workers that may die one after another, for each worker, while no batch is finished."""
POLL = 0.25
"""Seconds between two looks at the progress, which is where the work can be cancelled."""


class Job:
    """Some batches of a job (`units`, by number), given to `workers`; `another` makes a worker in place of a dead one."""

    def __init__(
        self,
        workers: Sequence[Any],
        another: Callable[[Any], Any],
        work: Work,
        units: Mapping[int, Unit],
        parts: Parts,
    ) -> None:
        import ray

        self.parts, self.units, self.another = parts, units, another
        self.held = [ray.put(work)]
        self.there = {number: path for number, path in parts.there().items() if number in units}
        self.ahead = sum(len(units[number].batch) for number in self.there)
        """Prompts of units that are finished and not taken yet."""
        self.waiting = deque(unit for unit in units.values() if unit.number not in self.there)
        self.idle = deque(workers)
        self.running: dict[Any, tuple[Any, Unit]] = {}
        self.failures: Counter[int] = Counter()
        self.deaths, self.bearable = 0, DEATHS * len(workers)

    def part(self, number: int) -> bytes | None:
        """A unit's part; None while it is not there. A damaged one is computed again."""
        if number not in self.there:
            return None
        data = self.parts.read(self.there[number])
        if data is None:
            del self.there[number]
            self.waiting.appendleft(self.units[number])
        self.ahead -= len(self.units[number].batch)
        return data

    def step(self) -> None:
        """Give work to who has none, wait a moment, take what is finished."""
        import ray

        while self.idle and self.waiting:
            worker, unit = self.idle.popleft(), self.waiting.popleft()
            self.running[worker.do.remote(self.held, unit)] = (worker, unit)
        ready, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL)
        for reference in ready:
            worker, unit = self.running.pop(reference)
            try:
                found = ray.get(reference)
            except ray.exceptions.RayError as error:
                self._died(worker, unit, error)
            else:
                self.idle.append(worker)
                self._take(unit, found)

    def _take(self, unit: Unit, found: Finished) -> None:
        if found.problem:
            self._failed(unit, found)
            return
        if found.results > 1:
            log.warning("a worker had too little memory for %d prompts at once and went on with less", len(unit.batch))
        if found.data is not None:
            self.parts.write(unit.number, found.data)
        self.there[unit.number] = self.parts.path(unit.number, found.digest)
        self.ahead += len(unit.batch)
        self.deaths = 0

    def _failed(self, unit: Unit, found: Finished) -> None:
        self.failures[unit.number] += 1
        if found.fixable:
            raise CorrSteerError(found.problem)
        if self.failures[unit.number] >= TRIES:
            raise CorrSteerError(
                f"A batch of {len(unit.batch)} prompts failed {TRIES} times on the workers: {found.problem}; what was finished "
                f"is kept, and the same command goes on from there."
            )
        self.waiting.appendleft(unit)

    def _died(self, worker: Any, unit: Unit, error: Exception) -> None:
        self.deaths += 1
        log.warning("a worker died; its %d prompts are given to another", len(unit.batch))
        if self.deaths > self.bearable:
            raise CorrSteerError(
                f"Workers died {self.deaths} times without finishing a batch, killed from outside or by the system for lack of "
                f"memory ({str(error).strip().splitlines()[0]}); what was finished is kept: go on with fewer --workers."
            )
        self.idle.append(self.another(worker))
        self.waiting.appendleft(unit)
