"""How far two rankings of the same features agree: the ranks of all, and the few that lead both."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from scipy.stats import spearmanr

TOP = 20
"""Features that lead a ranking."""


@dataclass(frozen=True)
class Agreement:
    """What two rankings of the same features have in common."""

    features: int
    """Features that both rank."""
    rank_correlation: float | None
    """Spearman's, of r and r; None where either never changes."""
    top: int
    """How many features lead each."""
    leading: pd.DataFrame
    """The features that lead both, best first by the lower of their two r."""

    @property
    def by_chance(self) -> float:
        """How many would lead both, on average, if the rankings had nothing to do with each other."""
        return self.top**2 / self.features if self.features else 0.0


def agreement(pairs: pd.DataFrame, top: int = TOP) -> Agreement:
    """The agreement of two runs; `pairs` has a row per feature with `r` and `other_r`, neither missing."""
    top = min(top, len(pairs))
    varied = len(pairs) > 2 and pairs["r"].nunique() > 1 and pairs["other_r"].nunique() > 1
    found = float(spearmanr(pairs["r"], pairs["other_r"]).statistic) if varied else None
    heads = [pairs[column].nlargest(top).index for column in ("r", "other_r")]
    leading = pairs.loc[heads[0].intersection(heads[1])]
    lower = leading[["r", "other_r"]].min(axis=1)
    return Agreement(len(pairs), found, top, leading.loc[lower.sort_values(ascending=False, kind="stable").index])


def shown(pairs: pd.DataFrame, limit: int = 1200) -> pd.DataFrame:
    """Pairs for a picture: of more than `limit`, half are those of the largest |r| in either run, half an even sample."""
    if len(pairs) <= limit:
        return pairs
    largest = pairs[["r", "other_r"]].abs().max(axis=1).nlargest(limit // 2).index
    rest = pairs.drop(largest)
    return pd.concat([pairs.loc[largest], rest.sample(limit - len(largest), random_state=0)]).sort_index()
