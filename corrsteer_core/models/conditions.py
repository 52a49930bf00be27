"""What numbers depend on beside model, type and texts: where they are computed, in how many threads, how much at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Limits:
    """Where larger batches bring nothing more: a CPU is busy with few, and a batch is a step of progress."""

    prompts: int
    """Read together."""
    rows: int
    """Decoded together."""
    tokens: int
    """Whose keys and values are held."""


@dataclass(frozen=True)
class Conditions:
    """Kept with a run when it is begun, so that what is added later, on this machine or another, is cut in the same way."""

    device: str
    """Kind of device: cpu, cuda, mps."""
    threads: int
    """Of PyTorch, in each process."""
    limits: Limits

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Conditions:
        body = json.loads(text)
        return cls(body["device"], body["threads"], Limits(**body["limits"]))


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads of PyTorch in this process while the context is open; None leaves them as they are."""
    import torch

    before = torch.get_num_threads()
    if count in (None, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
