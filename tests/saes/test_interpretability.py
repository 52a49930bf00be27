"""Detection: made-up features whose words are known, and the judge against scikit-learn's."""

import numpy as np
import pytest

from corrsteer_core.saes import interpretability
from corrsteer_core.saes.interpretability import FEWEST, WINDOW, WordJudge, detection, peaks_of

WORDS = 60
SIGN = 5  # the token that the made-up feature of meaning fires on


def windows(n, seed=0):
    return np.random.default_rng(seed).integers(10, WORDS, (n, WINDOW))


def occurs(texts):
    """(windows, words): which words occur in a window."""
    found = np.zeros((len(texts), WORDS), dtype=int)
    for row, text in enumerate(texts):
        found[row, text] = 1
    return found


def test_the_judge_is_naive_bayes_as_scikit_learn_has_it():
    naive_bayes = pytest.importorskip("sklearn.naive_bayes")
    rng = np.random.default_rng(1)
    with_it, without = rng.integers(0, WORDS - 20, (25, WINDOW)), rng.integers(15, WORDS, (200, WINDOW))
    known = np.unique([*with_it.ravel(), *without.ravel()])
    theirs = naive_bayes.MultinomialNB(alpha=0.5, fit_prior=False)
    theirs.fit(occurs([*with_it, *without])[:, known], [1] * len(with_it) + [0] * len(without))
    asked = rng.integers(0, WORDS, (50, WINDOW))
    log_odds = np.subtract(*theirs.predict_joint_log_proba(occurs(asked)[:, known]).T[::-1])
    np.testing.assert_allclose(WordJudge(with_it, without).scores(asked), log_odds)


def test_tokens_that_the_judge_never_saw_count_nothing():
    judge = WordJudge(np.array([[3, 3, 4]]), np.array([[7, 8, 8]]))
    known, more = judge.scores(np.array([[3, 3, 3], [3, 50, 1]]))
    assert known == more > 0


def test_a_feature_of_a_word_is_told_and_one_that_fires_at_random_is_not():
    words = windows(1500)
    rng = np.random.default_rng(2)
    fires = rng.random((1500, 2)) < 0.1
    words[fires[:, 0], 3] = SIGN
    peaks = fires * rng.random((1500, 2))
    of_word, at_random = (detection(peaks[:, [at]], words, seed=0) for at in (0, 1))
    assert of_word.auc == pytest.approx(1.0, abs=0.02)
    assert at_random.auc == pytest.approx(0.5, abs=0.15)
    both = detection(peaks, words, seed=0)
    assert both.features == 2


def test_held_out_texts_are_judged_not_those_it_learned_from():
    """Every window has words of its own: known by heart, they say nothing of the others."""
    words = np.arange(200 * WINDOW).reshape(200, WINDOW)
    peaks = np.zeros((200, 1))
    peaks[:20] = 1
    assert detection(peaks, words, seed=0).auc == 0.5


def test_rare_features_are_left_out_and_those_hardly_ever_silent_count_a_coins_worth():
    words, n = windows(400), 400
    peaks = np.zeros((n, 3))
    peaks[: FEWEST - 1, 0] = 1  # too rare
    peaks[FEWEST - 1 :, 1] = 1  # silent in too few
    found = detection(peaks, words, seed=0)
    assert (found.auc, found.features) == (0.5, 1)
    assert np.isnan(detection(peaks[:, [2]], words, seed=0).auc)


def test_the_strongest_windows_are_asked_about():
    """Fires weakly at random, and strongly where its word stands: the strongest texts say what it is."""
    words = windows(2000)
    rng = np.random.default_rng(3)
    peaks = (rng.random((2000, 1)) < 0.2) * 0.1
    strong = rng.permutation(2000)[: interpretability.STRONGEST]
    peaks[strong] = 5.0
    words[strong, 0] = SIGN
    assert detection(peaks, words, seed=0).auc == pytest.approx(1.0, abs=0.02)


def test_peaks_are_the_largest_of_each_whole_window():
    z = np.random.default_rng(4).random((3, 2 * WINDOW + 5, 7))
    expected = [[z[s, w * WINDOW : (w + 1) * WINDOW].max(0) for w in range(2)] for s in range(3)]
    np.testing.assert_array_equal(peaks_of(z), expected)
