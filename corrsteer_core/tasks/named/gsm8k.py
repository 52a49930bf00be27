"""gsm8k: grade-school mathematics (Cobbe et al., arXiv 2110.14168), openai/gsm8k "main".

Row: question, answer (reasoning that ends in "#### 72").

Prompt: Solve the problem step by step. End with a line of the form "#### number" that holds the final answer alone.

        Question: Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How
        many clips did Natalia sell altogether in April and May?
        Answer:
Right:  "In May she sold 48 / 2 = 24. 48 + 24 = 72\\n#### 72" (the final number, see `numbers`)

The published test set stays test, whole; train is divided between train and validation. Targets keep their commas
("2,125"); the scorer reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corrsteer_core.tasks.base import BetterPrompt, Draft, HubSource, Task
from corrsteer_core.tasks.parse import optional, text
from corrsteer_core.tasks.scoring.numbers import answer_number
from corrsteer_core.tasks.scoring.scorers import number

INSTRUCTION = (
    'Solve the problem step by step. End with a line of the form "#### number" that holds the final answer alone.'
)


def parse(row: Mapping[str, Any], index: int) -> Draft:
    """A row with `question` and `answer`; the target is what stands after "####"."""
    _, marker, target = text(row, "answer").rpartition("####")
    if not marker or answer_number(target) is None:
        raise ValueError("has an 'answer' without '#### number' at its end; add the final number")
    prompt = f"{INSTRUCTION}\n\nQuestion: {text(row, 'question')}\nAnswer:"
    return Draft(prompt, target.strip(), group="gsm8k", id=optional(row, "id"))


PROMPTS = (
    BetterPrompt(
        "one step at a time",
        "You are a careful teacher of mathematics. Write one short step a line, check each sum, and give the final number on a "
        "last line after ####.",
    ),
    BetterPrompt(
        "read it twice",
        "First say in one sentence what is asked for. Then list the numbers that are given, calculate, and end with #### and "
        "the number alone.",
    ),
)

TASK = Task(
    name="gsm8k",
    title="GSM8K",
    description="A grade-school word problem, solved in writing. Success: the final number is right.",
    max_new_tokens=256,
    chat=True,
    scorer=number,
    needs_target=True,
    source="openai/gsm8k",
    parse=parse,
    fields=("question", "answer"),
    hub=HubSource("openai/gsm8k", "main/", test=("test",), fit=("train",)),
    prompts=PROMPTS,
)
