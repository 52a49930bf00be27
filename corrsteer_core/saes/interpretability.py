"""Automatic interpretability by detection: can a judge that saw some of a feature's texts tell the others?

After Paulo et al. 2024, "Automatically interpreting millions of features in large language models"
(arXiv 2410.13928), whose judge is a language model told a description. Ours is a bag of words: naive Bayes on the tokens of
half of the feature's strongest text windows against windows where it is silent, asked about the other half. It
knows nothing of order or meaning, so what it tells apart, a person can name by its words; a feature
of meaning or syntax can score low.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corrsteer_core.statistics.discrimination import auc

WINDOW = 16  # tokens per text window
STRONGEST = 50  # windows of highest activation taken per feature
SILENT = 400  # windows taken where the feature is silent
FEWEST = 10  # windows of each kind, below which a feature is too rare (or too dense) to be judged
_SMOOTHING = 0.5  # added to every word's count (Krichevsky-Trofimov)


@dataclass(frozen=True)
class Detection:
    """How well features were recognised by their words."""

    auc: float
    """Mean area under the ROC curve over the features judged, in [0, 1]; 0.5 is a coin's. NaN if none was."""
    features: int
    """Features judged, those that are hardly ever silent among them (which count 0.5). Those that fire in fewer than
    `FEWEST` windows are left out."""


def peaks_of(activations: NDArray) -> NDArray:
    """Strongest activation per window: (sequences, positions, features) to (sequences, windows, features).

    Positions beyond the last whole window are left out.
    """
    sequences, positions, features = activations.shape
    whole = positions // WINDOW
    return activations[:, : whole * WINDOW].reshape(sequences, whole, WINDOW, features).max(2)


def detection(peaks: NDArray, words: NDArray, seed: int) -> Detection:
    """Judge features by the words of text windows.

    `peaks`: strongest activation of each feature per window, (windows, features); `words`: the
    windows' token ids, (windows, tokens). A feature that is silent in fewer than `FEWEST` windows has
    no text without it, and counts 0.5.
    """
    every = (
        _feature(peaks[:, feature], words, np.random.default_rng([seed, feature])) for feature in range(peaks.shape[1])
    )
    scores = [score for score in every if score is not None]
    return Detection(float(np.mean(scores)) if scores else float("nan"), len(scores))


def _feature(peaks: NDArray, words: NDArray, rng: np.random.Generator) -> float | None:
    firing, silent = np.flatnonzero(peaks > 0), np.flatnonzero(peaks <= 0)
    if len(firing) < FEWEST:
        return None
    if len(silent) < FEWEST:
        return 0.5
    strongest = rng.permutation(firing[np.argsort(-peaks[firing], kind="stable")][:STRONGEST])
    others = rng.permutation(silent)[:SILENT]
    half, other_half = len(strongest) // 2, len(others) // 2
    judge = WordJudge(words[strongest[:half]], words[others[:other_half]])
    held_out = np.concatenate([strongest[half:], others[other_half:]])
    return auc(judge.scores(words[held_out]), peaks[held_out] > 0)


class WordJudge:
    """Naive Bayes on which tokens occur in a window (each counted once), fitted on windows with and without a feature."""

    def __init__(self, with_it: NDArray, without: NDArray) -> None:
        self._known = np.unique(np.concatenate([with_it.ravel(), without.ravel()]))
        self._weights = self._log_shares(with_it) - self._log_shares(without)

    def _log_shares(self, windows: NDArray) -> NDArray:
        counts = np.full(len(self._known), _SMOOTHING)
        for window in windows:
            counts[np.searchsorted(self._known, np.unique(window))] += 1
        return np.log(counts / counts.sum())

    def scores(self, windows: NDArray) -> NDArray:
        """Log odds per window (n,), higher where the feature is more likely; tokens never seen count nothing."""
        return np.array([self._score(np.unique(window)) for window in windows])

    def _score(self, tokens: NDArray) -> float:
        at = np.minimum(np.searchsorted(self._known, tokens), len(self._known) - 1)
        return float(self._weights[at[self._known[at] == tokens]].sum())
