"""The tone of a text by VADER, a lexicon with rules for negation and emphasis (Hutto & Gilbert, ICWSM 2014; MIT licence).

It knows words, not sense: "a killer view" is negative to it. As a rule for how a text sounds it is cheap, fixed
and open to inspection, which is what an outcome needs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from corrsteer_core.base.errors import CorrSteerError


@cache
def analyzer() -> Any:
    """VADER with its lexicon, read once. Raises CorrSteerError if the package vaderSentiment is not installed."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise CorrSteerError(
            "The tone of a text is scored by the package vaderSentiment, which is not installed; install it with "
            "'pip install vaderSentiment==3.3.2'."
        ) from error
    return SentimentIntensityAnalyzer()


def compound(text: str) -> float:
    """VADER's compound score in [-1, 1]: below 0 is negative, 0 neutral or empty, above 0 positive."""
    return float(analyzer().polarity_scores(text)["compound"])
