"""sentiment: short reviews of our own, positive or negative, answered in one word.

Prompt: Decide whether a review is positive or negative.

        'Wonderful salon, relaxing chairs and a fantastic color job.'
        Sentiment:
Right:  " Positive" (the first word, case and punctuation aside)

Without a chat template, so that the one generated token is the word itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrsteer_core.tasks.base import BetterPrompt, Draft, Task
from corrsteer_core.tasks.parse import optional, text
from corrsteer_core.tasks.scoring.scorers import first_word

CHOICES = ("Positive", "Negative")


def parse(row: Mapping[str, Any], index: int) -> Draft:
    """A row with `text` and `target` ("Positive" or "Negative")."""
    prompt = f"Decide whether a review is positive or negative.\n\n'{text(row, 'text')}'\nSentiment:"
    target = text(row, "target").strip().capitalize()
    if target not in CHOICES:
        raise ValueError(f"has the target {row['target']!r}; write one of {', '.join(CHOICES)}")
    return Draft(prompt, target, CHOICES, id=optional(row, "id"))


PROMPTS = (
    BetterPrompt("be fair", "Be fair: half of the reviews are negative."),
    BetterPrompt("4 examples", shots=4),
)

TASK = Task(
    name="sentiment",
    title="Sentiment of reviews",
    description="Is a short review positive or negative? Success: the model's next word is the right one.",
    max_new_tokens=1,
    chat=False,
    scorer=first_word,
    needs_target=True,
    source="built in",
    parse=parse,
    fields=("text", "target"),
    file=Path(__file__).parents[1] / "data" / "sentiment.jsonl",
    shifted=Path(__file__).parents[1] / "data" / "sentiment_shifted.jsonl",
    prompts=PROMPTS,
)
