"""What defines a run, and the name that follows from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.poolings import DEFAULT_POOLING, get_pooling
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.tasks import Item

DTYPES = ("float32", "bfloat16")
"""The types a model is loaded in. float16 does not hold the residuals of Gemma 2 and 3."""

QUANTIZED = {"8bit": "int8 weights", "4bit": "nf4 weights"}
"""What a model's weights may be kept in instead, as it is asked for and as a run names it."""


@dataclass(frozen=True)
class RunConfig:
    """Model + SAEs + task + settings: everything that the cached numbers depend on."""

    task: str
    model: str
    model_fingerprint: str
    dtype: str
    saes: tuple[SaeRef, ...]
    style: PromptStyle
    max_new_tokens: int
    pooling: str = DEFAULT_POOLING
    seed: int = 0
    """Seed of the split, where the task has none of its own."""
    limit: int | None = None
    """At most so many samples, over all splits."""
    data: str = ""
    """File that the items came from, if not the task's own."""
    columns: tuple[tuple[str, str], ...] = ()
    """(field, column) each: what that file calls our fields, where it has names of its own (`tasks.columns`)."""
    scorer: str = ""
    """Name of the scorer of a task of the user's own."""
    judge: str = ""
    """Name of the judge that scores in place of the task's own rules."""
    copies: int | None = None
    """Rows that were left out because their prompt was there already; None where a release of before made the run."""
    contradictions: int | None = None
    """Prompts that were there with several targets; the first row's holds."""
    near_copies: int | None = None
    """Test samples that nearly repeat a sample that the run fits or chooses on."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise CorrSteerError(f"{self.max_new_tokens} new tokens were asked for; ask for at least 1.")
        if self.limit is not None and self.limit < 1:
            raise CorrSteerError(f"A limit of {self.limit} samples was asked for; ask for at least 1.")
        get_pooling(self.pooling)
        if not self.saes:
            raise CorrSteerError("A run needs at least one SAE; name a folder or release with --sae.")

    def run_id(self, items: Sequence[Item]) -> str:
        """Name of the run: the task and a hash of this configuration and of every item."""
        body = asdict(self)
        if not self.judge:
            body.pop("judge")
        for name in ("data", "columns", "copies", "contradictions", "near_copies"):
            body.pop(name)  # what counts is what the items are, not where they come from
        before, after = json.dumps(body | {"items": []}, sort_keys=True).split('"items": []')
        digest = hashlib.sha256(f'{before}"items": ['.encode())
        for nth, item in enumerate(items):  # one by one: all of them as one text would be many times what they take
            digest.update((", " * (nth > 0) + json.dumps(_identity(item), sort_keys=True)).encode())
        digest.update(f"]{after}".encode())
        return f"{slug(self.task)}-{digest.hexdigest()[:8]}"


def _identity(item: Item) -> dict[str, Any]:
    """What of an item enters the name of a run; a cluster only where there is one, as runs of before have none."""
    body = asdict(item)
    return body if item.cluster else {name: value for name, value in body.items() if name != "cluster"}


def slug(text: str) -> str:
    """A name safe for files and links: a-z, 0-9, - and _."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-") or "unnamed"
