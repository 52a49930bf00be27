"""What the process that asks and its workers tell each other. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from corrsteer_core.models.conditions import Conditions


@dataclass(frozen=True)
class Place:
    """The model that all workers load, and the conditions that hold for them."""

    model: str
    fingerprint: str
    dtype: str
    quantized: str
    """What its weights are kept in, "" for as they come; a worker elsewhere does not see this process's environment."""
    conditions: Conditions


@dataclass(frozen=True)
class Unit:
    """One batch of a job, and where its result is to lie."""

    job: str
    number: int
    batch: list[int]
    folder: str
    mark: str
    """What the folder's mark says, where the worker sees that folder."""


@dataclass(frozen=True)
class Finished:
    """What a worker says of a unit."""

    number: int
    digest: str = ""
    data: bytes | None = None
    """The part itself, where the worker does not see the job's folder."""
    results: int = 1
    """More than one where memory did not hold the batch."""
    problem: str = ""
    """Why it could not be done, in one sentence."""
    fixable: bool = False
    """Whether it is the user who can fix it; trying again then changes nothing."""
