"""Which samples of an evaluation are shown: how they flipped, their right answer, a text in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from app.shared.components import missing

FLIPS = {"won": "Won", "lost": "Lost", "changed": "Text changed only", "same": "Unchanged"}
ANY = ""
"""In place of a choice."""
MOST_CLASSES = 30
"""Right answers to choose among; more of them are no classes, as with numbers to be found."""
SEARCHED = ("prompt", "target", "unsteered", "steered")


@dataclass(frozen=True)
class Wanted:
    """What a sample must be like to be shown."""

    flip: str = ANY
    """One of FLIPS, or ANY."""
    right: str = ANY
    """A right answer, or ANY."""
    text: str = ""
    """Anywhere in prompt, right answer or either text, in capitals or not."""

    def of(self, samples: pd.DataFrame) -> pd.DataFrame:
        """The samples (as `measurements.with_flips` gives them) that are like this, in their order."""
        kept = pd.Series(True, index=samples.index)
        if self.flip != ANY:
            kept &= samples["flip"] == self.flip
        if self.right != ANY:
            kept &= samples["target"].map(_text) == self.right
        if words := _folded(self.text):
            kept &= samples[list(SEARCHED)].map(lambda cell: words in _folded(cell)).any(axis=1)
        return samples[kept]


def classes(samples: pd.DataFrame) -> list[str]:
    """The right answers there are, if there are at least two and few enough to be classes."""
    found = sorted({_text(target) for target in samples["target"] if _text(target)})
    return found if 2 <= len(found) <= MOST_CLASSES else []


def _text(cell: Any) -> str:
    return "" if missing(cell) else str(cell)


def _folded(cell: Any) -> str:
    """A text as it is searched: one space for any, no capitals."""
    return " ".join(_text(cell).split()).casefold()
