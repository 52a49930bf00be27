"""capitals: four-way multiple-choice questions of our own about countries, answered with a letter.

Prompt: Answer with the letter of the right choice only.

        Oslo is the capital of which country?
        A. Estonia
        B. Finland
        C. Norway
        D. Lithuania
        Answer:
Right:  "C"

Zero-shot, one token. Knowledge that a small model lacks cannot be steered into it: expect noise on the embedded model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrsteer_core.tasks.base import LETTERS, BetterPrompt, Draft, Task
from corrsteer_core.tasks.parse import LETTER_ONLY, letter_of, multiple_choice, optional, sequence, text
from corrsteer_core.tasks.scoring.scorers import letter


def parse(row: Mapping[str, Any], index: int) -> Draft:
    """A row with `question`, `choices` (texts) and `target` (a letter)."""
    choices = sequence(row, "choices")
    target = letter_of(row["target"], len(choices), "target")
    prompt = multiple_choice(text(row, "question"), choices, instruction=LETTER_ONLY)
    return Draft(prompt, target, tuple(LETTERS[: len(choices)]), optional(row, "kind"), optional(row, "id"))


PROMPTS = (
    BetterPrompt(
        "a careful expert",
        "You are an expert in geography. Weigh every choice, then answer with the letter of the right one "
        "and nothing else.",
    ),
    BetterPrompt("4 examples", shots=4),
)

TASK = Task(
    name="capitals",
    title="Facts about countries",
    description="A multiple-choice question about countries. Success: the model's next word is the right letter.",
    max_new_tokens=1,
    chat=True,
    scorer=letter,
    needs_target=True,
    source="built in",
    parse=parse,
    fields=("question", "choices", "target"),
    file=Path(__file__).parents[1] / "data" / "capitals.jsonl",
    shifted=Path(__file__).parents[1] / "data" / "capitals_shifted.jsonl",
    prompts=PROMPTS,
)
