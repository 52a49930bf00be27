"""simpleqa: short factual questions with one right answer (Wei et al., arXiv 2411.04368), basicv8vc/SimpleQA.

Row: metadata, problem, answer.

Prompt: Answer the question with the answer alone, in as few words as possible.

        Question: Who received the IEEE Frank Rosenblatt Award in 2010?
        Answer:
Right:  "Michio Sugeno" (the target's words anywhere in the answer; a model that names several people is credited)

The original is graded by a large model; by rules, the answer must contain the target. The judge
`dleemiller/ModernCE-base-sts` can be asked for instead. The set comes in one piece (4,326 rows).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corrsteer_core.tasks.base import BetterPrompt, Draft, HubSource, Task
from corrsteer_core.tasks.parse import optional, text
from corrsteer_core.tasks.scoring.scorers import contains

INSTRUCTION = "Answer the question with the answer alone, in as few words as possible."


def parse(row: Mapping[str, Any], index: int) -> Draft:
    """A row with `problem` and `answer`."""
    prompt = f"{INSTRUCTION}\n\nQuestion: {text(row, 'problem')}\nAnswer:"
    return Draft(prompt, text(row, "answer"), group="simpleqa", id=optional(row, "id"))


PROMPTS = (
    BetterPrompt(
        "a good memory",
        "You know encyclopedias by heart. Answer with the exact name, number or date that is asked for, and nothing else.",
    ),
    BetterPrompt("4 examples", shots=4),
)

TASK = Task(
    name="simpleqa",
    title="SimpleQA",
    description="A short question about a fact. Success: the answer contains the right one.",
    max_new_tokens=24,
    chat=True,
    scorer=contains,
    needs_target=True,
    source="basicv8vc/SimpleQA",
    parse=parse,
    fields=("problem", "answer"),
    hub=HubSource("basicv8vc/SimpleQA", pool=("test",)),
    prompts=PROMPTS,
)
