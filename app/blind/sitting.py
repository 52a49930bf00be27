"""A blind test as values: its pairs in their order, where the steered text stands in each, and the votes. Draws nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from app.shared import tables
from app.shared.components import plain
from corrsteer_core.statistics.preference import Preference, preference

Side = Literal["left", "right"]
Vote = Literal["left", "right", "neither"]
VOTES: dict[Vote, str] = {"left": "Left is better", "right": "Right is better", "neither": "No difference"}


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, side by side."""

    sample: str
    prompt: str
    left: str
    right: str
    steered: Side
    """Where the steered one stands: not to be told before the end."""


@dataclass
class Sitting:
    """One tab's test of one measurement."""

    pairs: tuple[Pair, ...]
    votes: dict[str, Vote] = field(default_factory=dict)
    """By sample, in the order they were given."""
    over: bool = False
    """Whether it has been shown which was which: then no vote is taken any more."""

    @property
    def next(self) -> Pair | None:
        """The first pair without a vote; None after the last."""
        return next((pair for pair in self.pairs if pair.sample not in self.votes), None)

    def vote(self, sample: str, vote: Vote) -> None:
        """Take a vote, unless the pair has one (a second click) or the test is over."""
        if not self.over:
            self.votes.setdefault(sample, vote)

    def take_back(self) -> None:
        """Forget the last vote."""
        if self.votes and not self.over:
            self.votes.popitem()

    def end(self) -> None:
        """Take no more votes: what was steered is told now."""
        self.over = True

    def outcome(self, votes: int | None = None) -> Preference:
        """What the votes amount to, or the first so many of them."""
        steered_on: Mapping[str, Side] = {pair.sample: pair.steered for pair in self.pairs}
        counted = list(self.votes.items())[:votes]
        decided = [vote == steered_on[sample] for sample, vote in counted if vote != "neither"]
        return preference(sum(decided), len(decided) - sum(decided), len(counted) - len(decided))

    def voted(self) -> list[tuple[Pair, Vote]]:
        """The pairs with a vote, in the order they were given."""
        by_sample = {pair.sample: pair for pair in self.pairs}
        return [(by_sample[sample], vote) for sample, vote in self.votes.items()]

    def as_csv(self) -> bytes:
        """Every vote with both texts and what was which; cells that a spreadsheet would run stay text."""
        rows = [
            {"sample": pair.sample, "prompt": pair.prompt, "left": pair.left, "right": pair.right,
             "steered": pair.steered, "vote": vote, "preferred": _preferred(pair, vote)}
            for pair, vote in self.voted()
        ]  # fmt: skip
        return tables.as_csv(pd.DataFrame(rows))


def _preferred(pair: Pair, vote: Vote) -> str:
    if vote == "neither":
        return "neither"
    return "steered" if vote == pair.steered else "unsteered"


def sitting_of(samples: pd.DataFrame, seed: int) -> Sitting:
    """A test of an evaluation's samples whose texts differ to the eye: pairs in random order, sides at random.

    `samples`: as `measurements.evaluated_samples` gives them. The same seed makes the same test.
    """
    drawn = random.Random(seed)
    pairs = [_pair(row, drawn) for row in samples.itertuples() if _seen(row.unsteered) != _seen(row.steered)]
    drawn.shuffle(pairs)
    return Sitting(tuple(pairs))


def _pair(row: Any, drawn: random.Random) -> Pair:
    steered: Side = drawn.choice(("left", "right"))
    left, right = (row.steered, row.unsteered) if steered == "left" else (row.unsteered, row.steered)
    return Pair(str(row.sample), row.prompt, left, right, steered)


def _seen(text: str) -> str:
    """What of a text a reader sees."""
    return " ".join(plain(text).split())
