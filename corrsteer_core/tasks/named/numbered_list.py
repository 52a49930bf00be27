"""numbered_list: requests of our own for a list; a numbered one is wanted, from the first line on.

Prompt: Make a list of ways to save water at home.
Right:  "1. Fix leaking taps ..." (the first line begins with 1; no "Sure, here are ..." and no bullets)

Form, not content: the content of the list is not checked. Twelve tokens show how an answer begins. Shifted:
requests in whole sentences, on computing, steps of a task and formal business.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrsteer_core.tasks.base import BetterPrompt, Draft, Task
from corrsteer_core.tasks.parse import optional, text
from corrsteer_core.tasks.scoring.scorers import numbered_list


def parse(row: Mapping[str, Any], index: int) -> Draft:
    """A row with `text`: what the list is of."""
    return Draft(f"Make a list of {text(row, 'text')}.", group=optional(row, "topic"), id=optional(row, "id"))


PROMPTS = (
    BetterPrompt("a rule", 'Answer with a numbered list and nothing else. The first line begins with "1."'),
    BetterPrompt(
        "a pattern", "Always answer in this form:\n1. the first thing\n2. the second thing\n3. the third thing"
    ),
)

TASK = Task(
    name="numbered_list",
    title="Answering with a numbered list",
    description="The model is asked for a list. Success: its answer is a numbered list from the first line on.",
    max_new_tokens=12,
    chat=True,
    scorer=numbered_list,
    needs_target=False,
    source="built in",
    parse=parse,
    fields=("text",),
    file=Path(__file__).parents[1] / "data" / "numbered_list.jsonl",
    shifted=Path(__file__).parents[1] / "data" / "numbered_list_shifted.jsonl",
    prompts=PROMPTS,
)
