"""tone and its mirror tone_negative: open beginnings of our own, neutral in tone, that the model goes on with.

Prompt: A page from my diary, from a long week.

        Our stay at the hotel was
Right:  " a dream come true. I ..." (tone: VADER's compound score of what the model wrote is above 0.05)
        " a disaster from the first ..." (tone_negative: below -0.05)

Behaviour, not accuracy: no answer is wrong, so nothing can be gained by knowing more. A set that raises one of the
two should lower the other. Plain text without a chat template: a chat model would answer the sentence instead of
going on with it. Shifted: letters, speeches, remarks on places and stories, without the diary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from corrsteer_core.tasks.base import BetterPrompt, Draft, Task
from corrsteer_core.tasks.parse import optional, text
from corrsteer_core.tasks.scoring.scorers import negative_tone, positive_tone

FRAME = "A page from my diary, from a long week.\n\n"
"""The frame of a diary: without it the model tells of bad days too seldom to count them (20% of texts; 25% with it)."""


def parse(row: Mapping[str, Any], index: int) -> Draft:
    """A row with `text`, the beginning."""
    return Draft(FRAME + text(row, "text"), group=optional(row, "topic"), id=optional(row, "id"))


PROMPTS = (
    BetterPrompt(
        "a glad writer",
        "This is the diary of a cheerful and thankful person, who enjoys every day and to whom good things happen.",
    ),
    BetterPrompt(
        "asked outright", "Go on with the text in a warm and happy way: all that comes is wonderful and was loved."
    ),
)
SAD_PROMPTS = (
    BetterPrompt(
        "a sad writer",
        "This is the diary of a bitter and unhappy person, who hates every day and to whom bad things happen.",
    ),
    BetterPrompt(
        "asked outright", "Go on with the text in a sad and angry way: all that comes is terrible and was hated."
    ),
)

TASK = Task(
    name="tone",
    title="Going on in a positive tone",
    description="The model goes on with the beginning of a sentence. Success: what it writes sounds positive (VADER).",
    max_new_tokens=20,
    chat=False,
    scorer=positive_tone,
    needs_target=False,
    source="built in",
    parse=parse,
    fields=("text",),
    file=Path(__file__).parents[1] / "data" / "tone.jsonl",
    shifted=Path(__file__).parents[1] / "data" / "tone_shifted.jsonl",
    prompts=PROMPTS,
    comparing="Which sounds more positive?",
)
NEGATIVE = replace(
    TASK,
    name="tone_negative",
    title="Going on in a negative tone",
    description="The model goes on with the beginning of a sentence. Success: what it writes sounds negative (VADER).",
    scorer=negative_tone,
    prompts=SAD_PROMPTS,
    comparing="Which sounds more negative?",
)

TASKS = (TASK, NEGATIVE)
