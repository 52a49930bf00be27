"""Two chats side by side: the user's words are the same, the answers before the next one are each side's own.

Pure: no page, no model.
"""

from __future__ import annotations

from typing import NamedTuple

from corrsteer_core.base.text_diff import Side
from corrsteer_core.models.prompts import Message


class Turn(NamedTuple):
    """What the user said, and what either side answered."""

    words: str
    unsteered: str
    steered: str


Turns = tuple[Turn, ...]
"""What was said before, turn by turn."""


def conversation(turns: Turns, prompt: str, side: Side) -> str | list[Message]:
    """What a side is to answer: the prompt, or its own chat that ends with it."""
    if not turns:
        return prompt
    said: list[Message] = []
    for turn in turns:
        answer = turn.unsteered if side == "unsteered" else turn.steered
        said += [{"role": "user", "content": turn.words}, {"role": "assistant", "content": answer}]
    return [*said, {"role": "user", "content": prompt}]
