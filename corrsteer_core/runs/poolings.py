"""Ways to make one number of a feature's activations in a sample: one entry of POOLINGS each.

Values only, so that a run's settings can be read without torch; `engine.pooling` does the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from corrsteer_core.base.errors import CorrSteerError


@dataclass(frozen=True)
class Pooling:
    """What a pooling takes together, and how."""

    name: str
    what: str
    """In words, after "the pooled activation is the"."""
    combine: Literal["largest", "sum"] = "largest"
    """Of two activations of one sample: the larger one, or their sum."""
    averaged: bool = False
    """Whether what was combined is divided by the number of generation positions."""
    prompt_too: bool = False
    """Whether the prompt's own tokens count too, padding excluded."""
    plainly: str = ""
    """As the report says it to readers who know nothing of generation positions; empty: as in `what`."""


POOLINGS = {
    one.name: one
    for one in (
        Pooling(
            "max",
            "largest over the generation positions",
            plainly="while the model writes: the strongest activation from the last prompt token on",
        ),
        Pooling(
            "mean",
            "mean over the generation positions",
            combine="sum",
            averaged=True,
            plainly="while the model writes: the mean activation from the last prompt token on",
        ),
        # The first token counts too here. In many models its activations are outliers, and the same in every sample:
        # features that fire most there do not vary.
        Pooling(
            "all",
            "largest over all positions, those of the prompt too",
            prompt_too=True,
            plainly="over prompt and answer: the strongest activation",
        ),
    )
}
DEFAULT_POOLING = "max"


def get_pooling(name: str) -> Pooling:
    """A pooling by name. Raises CorrSteerError for an unknown one."""
    if name not in POOLINGS:
        raise CorrSteerError(f"Unknown pooling {name!r}; known are {', '.join(POOLINGS)}.")
    return POOLINGS[name]


def said_plainly(name: str) -> str:
    """What a run's pooling takes, for readers who know nothing of generation positions; the name alone of an unknown one."""
    known = POOLINGS.get(name)
    return name if known is None else known.plainly or f"the {known.what}"


def in_words() -> str:
    """All poolings with what they are, for a help text."""
    return "; ".join(f"{one.name}, the {one.what}" for one in POOLINGS.values())
