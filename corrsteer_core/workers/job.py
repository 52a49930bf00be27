"""The batches of one job on their way: which worker has which, what is there, what failed how often."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.workers.parts import Parts
from corrsteer_core.workers.units import Finished, Unit
from corrsteer_core.workers.work import Work

log = logging.getLogger("corrsteer")

TRIES = 3
"""Times that a batch may fail before it ends the job."""
DEATHS = 10
"""Workers that may die one after another, for each worker, while no batch is finished."""
BEGINNING = 600.0
"""Seconds that workers may take to be there."""
LATE = 60.0
"""Seconds after which it is said that some are not there."""
POLL = 0.25
"""Seconds between two looks at the progress, which is where the work can be cancelled."""


class Job:
    """Some batches of a job (`units`, by number), given to `workers`; `another` makes a worker in place of a dead one.

    A worker gets nothing to do before it has answered: where a machine was lost, there may be no room for another one.
    `alike` is told who it is, and raises CorrSteerError if it would compute other numbers.
    """

    def __init__(
        self,
        workers: Sequence[Any],
        another: Callable[[Any], Any],
        alike: Callable[[dict[str, Any]], None],
        work: Work,
        units: Mapping[int, Unit],
        parts: Parts,
    ) -> None:
        import ray

        self.parts, self.units, self.another, self.alike = parts, units, another, alike
        self.held = [ray.put(work)]
        self.there = {number: path for number, path in parts.there().items() if number in units}
        self.ahead = sum(len(units[number].batch) for number in self.there)
        """Prompts of units that are finished and not taken yet."""
        self.waiting = deque(unit for unit in units.values() if unit.number not in self.there)
        self.starting = {worker.about.remote(): worker for worker in workers}
        self.idle: deque[Any] = deque()
        self.running: dict[Any, tuple[Any, Unit]] = {}
        self.failures: Counter[int] = Counter()
        self.deaths, self.bearable = 0, DEATHS * len(workers)
        self.began = self.alive_at = time.monotonic()
        self.told = False

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
            worker, given = self.idle.popleft(), self.waiting.popleft()
            self.running[worker.do.remote(self.held, given)] = (worker, given)
        ready, _ = ray.wait([*self.running, *self.starting], num_returns=1, timeout=POLL)
        for reference in ready:
            unit: Unit | None = None
            if reference in self.running:
                worker, unit = self.running.pop(reference)
            else:
                worker = self.starting.pop(reference)
            try:
                found = ray.get(reference)
            except ray.exceptions.RayError as error:
                self._died(worker, unit, error)
                continue
            if unit:
                self._take(unit, found)
            else:
                self.alike(found)
            self.idle.append(worker)
        self._see_who_is_left()

    def _see_who_is_left(self) -> None:
        """Raise CorrSteerError when nobody has been there for long."""
        if self.running or self.idle:
            self.alive_at = time.monotonic()
            if self.starting and not self.told and time.monotonic() - self.began > LATE:
                self.told = True
                log.warning("%d of the workers are not there yet; the others go on without them", len(self.starting))
        elif time.monotonic() - self.alive_at > BEGINNING:
            raise CorrSteerError(
                f"No worker is left, and none could be started for {BEGINNING:.0f} seconds: the machines that they ran on are gone, "
                f"or others use them; what was finished is kept, and the same command goes on from there."
            )

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

    def _died(self, worker: Any, unit: Unit | None, error: Exception) -> None:
        self.deaths += 1
        if unit:
            log.warning("a worker died; its %d prompts are given to another", len(unit.batch))
            self.waiting.appendleft(unit)
        else:
            log.warning("a worker died while it started (%s); another is started", first_line(error))
        if self.deaths > self.bearable:
            raise CorrSteerError(
                f"Workers died {self.deaths} times without finishing a batch, killed from outside or by the system for lack of "
                f"memory ({first_line(error)}); what was finished is kept: go on with fewer --workers."
            )
        another = self.another(worker)
        self.starting[another.about.remote()] = another
