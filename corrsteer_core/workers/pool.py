"""The one seam between what is to be computed and who computes it: this process, or workers (see ray_pool.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from corrsteer_core.models.conditions import Conditions, threads
from corrsteer_core.models.limits import conditions_of
from corrsteer_core.models.loading import Model
from corrsteer_core.saes.sae import Sae
from corrsteer_core.workers.work import OnProgress, Work

T = TypeVar("T")


class Pool(Protocol):
    """Workers that share the batches of a job."""

    def results(
        self, model: Model, work: Work[T], batches: Sequence[list[int]], only: Sequence[int], on_progress: OnProgress
    ) -> Iterator[T]:
        """The results of some batches of a job (`only`: their numbers, ascending), in this order, whoever is done first."""

    def conditions(self, model: Model) -> Conditions:
        """Those that a run begun now is held to."""


_spread_over: ContextVar[Pool | None] = ContextVar("pool", default=None)


@contextmanager
def spread_over(pool: Pool) -> Iterator[None]:
    """Let the workers of a pool do what is computed while the context is open."""
    token = _spread_over.set(pool)
    try:
        yield
    finally:
        _spread_over.reset(token)


def conditions_now(model: Model) -> Conditions:
    """Those that a run begun now is held to."""
    pool = _spread_over.get()
    return pool.conditions(model) if pool else conditions_of(model)


def done(
    model: Model,
    saes: Sequence[Sae],
    work: Work[T],
    batches: Sequence[list[int]],
    on_progress: OnProgress = lambda prompts: None,
    *,
    only: Sequence[int] | None = None,
    here: bool = False,
) -> Iterator[T]:
    """The results of all batches of a job, or of `only` some (their numbers, ascending), in this order.

    `here`: in this process even where there are workers. `on_progress` is told how far it is beyond what was taken.
    """
    pool = _spread_over.get()
    numbers = range(len(batches)) if only is None else only
    if pool is not None and not here:
        yield from pool.results(model, work, batches, numbers, on_progress)
        return
    # More threads than a run was begun with are other numbers in the last digit; on fewer cores they would only wait.
    with threads(_threads_here(model)):
        do: Any = work.ready(model, saes, on_progress)
        for number in numbers:
            yield from do(batches[number])


def _threads_here(model: Model) -> int | None:
    asked = model.conditions
    return asked.threads if asked and asked.device == "cpu" else None
