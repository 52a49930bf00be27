"""The words of a task: an item, its scorer, where items come from. Knows nothing of models or files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "validation", "test", "shifted"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
"""What a run is made of: train fits, validation chooses, test is used once."""
SHIFTED: Split = "shifted"
"""Items made otherwise than those of a run, and never part of one: does an effect hold there too?"""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Item:
    """One task item. The chat template and few-shot examples are added elsewhere, to `prompt` as it stands."""

    id: str
    split: Split
    prompt: str
    """What the user's turn holds or, without a chat template, the whole prompt."""
    target: str | None = None
    choices: tuple[str, ...] = ()
    """What constrained decoding may choose among, e.g. ("A", "B", "C", "D"); empty if anything goes."""
    group: str = ""
    """Subject, category or label, for stratifying."""
    cluster: str = ""
    """What the item shares with others that were made with it, a template or a text; "" if it stands alone."""

    @property
    def stratum(self) -> str:
        """What splits and limits keep in proportion: the group, else the target."""
        return self.group or self.target or ""


Scorer = Callable[[str, Item], float]
"""(output text, item) -> outcome in [0, 1]; 1 is success. Pure: the same text always scores the same."""


@dataclass(frozen=True)
class Draft:
    """What a task's parser makes of one row: an item that has no split yet."""

    prompt: str
    target: str | None = None
    choices: tuple[str, ...] = ()
    group: str = ""
    id: str = ""
    """The row's own id, "" if it has none."""
    cluster: str = ""


Parse = Callable[[Mapping[str, Any], int], "Draft | None"]
"""(row, its index) -> draft, or None for a row of another task (BBQ keeps two in one file).
Raises ValueError with the rest of a sentence that begins "line 3 of FILE"."""


@dataclass(frozen=True)
class HubSource:
    """Where on the Hugging Face hub a task's files are, and what their own splits become."""

    repo: str
    folder: str = ""
    """Folder of the repository that holds this configuration's files; "" is anywhere."""
    test: tuple[str, ...] = ()
    """Native splits kept as test."""
    fit: tuple[str, ...] = ()
    """Native splits divided between train and validation."""
    pool: tuple[str, ...] = ()
    """Native splits divided among all three, for sets that come in one piece."""
    gated: bool = False
    """Its terms must be accepted on the hub first."""

    @property
    def native(self) -> tuple[str, ...]:
        # Test first: of two equal rows the first is kept, and the published test set stays whole.
        return self.test + self.fit + self.pool


@dataclass(frozen=True)
class BetterPrompt:
    """What a user would write before steering: a text, worked examples, or both. A steering set should do more."""

    name: str
    """A few words for a chart: "a careful reader"."""
    system: str = ""
    """Put before every prompt: as a system prompt, or before the text where the model or the task has none."""
    shots: int = 0
    """So many examples of the training split with their answers; only where right answers can be shown."""


WHICH_IS_BETTER = "Which answer is better?"


@dataclass(frozen=True)
class Task:
    """What is asked, how an answer is scored, and where the items come from."""

    name: str
    title: str
    """Plain words, for the app."""
    description: str
    """What is asked and what counts as success, in one or two sentences."""
    max_new_tokens: int
    chat: bool
    """Whether the chat template is used by default when the model has one."""
    scorer: Scorer
    needs_target: bool
    source: str
    """ "built in", a hub id, or the user's file."""
    parse: Parse
    fields: tuple[str, ...]
    """Fields that a row in the task's own shape must have."""
    hub: HubSource | None = None
    file: Path | None = field(default=None)
    """Package data or the user's file, for tasks that do not come from the hub."""
    shifted: Path | None = None
    """Package data: items of the same task from elsewhere (other domain, style or class balance)."""
    prompts: tuple[BetterPrompt, ...] = ()
    """Better prompts that a set is put against (`evaluate --against`): two for every task that has a name."""
    columns: tuple[tuple[str, str], ...] = ()
    """(field, column) each: what a file of the user's calls our fields, where it has names of its own (`tasks.columns`)."""
    comparing: str = WHICH_IS_BETTER
    """What people are asked who see two answers and do not know which was steered (the blind test)."""
