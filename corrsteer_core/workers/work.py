"""What a job asks of every batch of prompts, as plain values that can be sent to a worker and kept in a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Protocol, TypeVar

from corrsteer_core.models.conditions import Conditions
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.saes.sae import Sae

T = TypeVar("T")
OnProgress = Callable[[float], None]
"""Told how far the batch at hand is, in prompts; raising there ends the work."""


class Work(Protocol[T]):
    """What is asked of every batch. A batch's result depends on nothing but this, the batch, the model and its conditions."""

    @property
    def sae_refs(self) -> tuple[SaeRef, ...]:
        """The SAEs that it takes."""

    def identity(self) -> bytes:
        """All that the results depend on beside batch, model and conditions; equal for equal work in any process."""

    def ready(self, model: Model, saes: Sequence[Sae], on_progress: OnProgress) -> Callable[[list[int]], Iterator[T]]:
        """A function from a batch (places of prompts) to its results: one, or several where memory did not hold the batch."""

    def encode(self, results: Sequence[T]) -> bytes:
        """A batch's results as a Parquet file: nothing is lost, to the last bit."""

    def decode(self, data: bytes) -> list[T]:
        """The results that `encode` wrote."""


def job_name(model: Model, conditions: Conditions, work: Work, batches: Sequence[Sequence[int]]) -> str:
    """16 hex digits of all that the results of a job depend on: the same job asked again has the same name."""
    digest = hashlib.sha256(json.dumps([model.fingerprint, model.arithmetic, asdict(conditions)]).encode())
    for batch in batches:  # one by one: all of them as one text would be many times what they take
        digest.update(json.dumps(list(batch)).encode())
    digest.update(work.identity())
    return digest.hexdigest()[:16]
