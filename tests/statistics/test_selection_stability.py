"""selection_stability.py against loops, the exact test, and data whose true effects are known."""

from __future__ import annotations

import numpy as np
import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import selection_stability as stability
from corrsteer_core.statistics.rates import mcnemar_p


def made(seed, n=80, effects=(0.0, 0.0, 0.0)):
    """Outcomes of candidates that raise a rate of 0.5 by `effects`."""
    rng = np.random.default_rng(seed)
    return (rng.random(n) < 0.5).astype(float), (rng.random((n, len(effects))) < 0.5 + np.array(effects)).astype(float)


def test_shares_and_the_corrected_effect_equal_a_loop():
    before, after = made(0, n=30, effects=(0.1, 0.1, 0.0, 0.2))
    found = stability.selection_stability(before, after, resamples=200, seed=4)
    rng, winners, left_out = np.random.default_rng(4), [], []
    for _ in range(200):
        rows = rng.integers(0, 30, size=30).tolist()
        gains = [sum(after[i, j] - before[i] for i in rows) / 30 for j in range(4)]
        winners.append(max(range(4), key=lambda j: (round(gains[j], 12), -j)))
        rest = [i for i in range(30) if i not in rows]
        left_out.append(np.mean([after[i, winners[-1]] - before[i] for i in rest]))
    assert found.shares.tolist() == pytest.approx([winners.count(j) / 200 for j in range(4)])
    assert found.corrected_effect == pytest.approx(np.mean(left_out))
    assert found.apparent_effect == pytest.approx(max((after - before[:, None]).mean(axis=0)))
    assert found.none_share == 0


def test_the_winner_of_many_that_do_nothing_is_corrected_to_about_nothing():
    apparent, corrected = [], []
    for seed in range(40):
        found = stability.selection_stability(*made(seed, effects=(0.0,) * 40), resamples=100, seed=seed)
        apparent.append(found.apparent_effect)
        corrected.append(found.corrected_effect)
    assert np.mean(apparent) > 0.1
    # Not quite nothing: the rate without steering is common to all, as is its luck.
    truth = [stability_truth(seed) for seed in range(40)]
    assert np.mean(corrected) - np.mean(truth) == pytest.approx(0, abs=0.03)


def stability_truth(seed):
    """What any candidate would gain on new samples, beside the same luck of the unsteered rate."""
    before, _ = made(seed, effects=(0.0,) * 40)
    return 0.5 - before.mean()


def test_one_candidate_that_stands_out_is_always_chosen_and_keeps_its_effect():
    before, after = made(1, n=400, effects=(0.0, 0.45, 0.0))
    found = stability.selection_stability(before, after, resamples=100, seed=0)
    assert found.chosen == 1
    assert found.shares.tolist() == [0, 1, 0]
    assert found.corrected_effect == pytest.approx(found.apparent_effect, abs=0.02)


def test_equal_candidates_share_the_choice():
    found = stability.selection_stability(*made(2, n=300, effects=(0.2, 0.2)), resamples=300, seed=0)
    assert found.shares.sum() == pytest.approx(1)
    assert found.shares.min() > 0


def test_a_choice_of_none_is_counted_and_left_out_of_the_effect():
    before, after = made(3, n=40)

    def only_if_better(unsteered, steered):
        best = stability.highest_effect(unsteered, steered)
        return best if (steered[:, best] - unsteered).mean() > 0.15 else None

    found = stability.selection_stability(before, after, only_if_better, resamples=300, seed=0)
    assert 0 < found.none_share < 1
    assert found.shares.sum() + found.none_share == pytest.approx(1)
    never = stability.selection_stability(before, after, lambda *_: None, resamples=10, seed=0)
    assert (never.chosen, never.apparent_effect, never.corrected_effect, never.none_share) == (None, None, None, 1)


def test_choosing_without_looking_has_no_luck_to_correct():
    before, after = made(4, n=200)
    found = stability.selection_stability(before, after, lambda *_: 2, resamples=500, seed=0)
    assert found.shares.tolist() == [0, 0, 1]
    assert found.corrected_effect == pytest.approx(found.apparent_effect, abs=0.01)


def test_the_same_seed_gives_the_same_shares():
    one, two = (stability.selection_stability(*made(5), resamples=50, seed=9) for _ in range(2))
    assert np.array_equal(one.shares, two.shares)
    assert one.corrected_effect == two.corrected_effect


def test_bits_are_taken_as_they_are_kept():
    before, after = made(6)
    kept = stability.selection_stability(before.astype(bool), after.astype(bool), resamples=50, seed=1)
    assert np.array_equal(kept.shares, stability.selection_stability(before, after, resamples=50, seed=1).shares)


def test_ties_go_to_the_first_candidate_and_no_candidates_to_none():
    assert stability.highest_effect(np.zeros(3), np.ones((3, 2))) == 0
    assert stability.highest_effect(np.zeros(3), np.ones((3, 0))) is None


def test_within_noise_is_mcnemars_test_against_the_best():
    _, after = made(7, n=120, effects=(0.3, 0.25, 0.1, -0.1, 0.3))
    best = int(after.mean(axis=0).argmax())
    expected = []
    for j in range(5):
        up, down = np.sum(after[:, j] > after[:, best]), np.sum(after[:, j] < after[:, best])
        expected.append(mcnemar_p(int(up), int(down)) >= 0.05)
    found = stability.within_noise_of(best, after)
    assert found.tolist() == expected
    assert found[best]
    assert not found.all()


def test_graded_candidates_are_compared_by_their_sizes():
    rng = np.random.default_rng(8)
    best = rng.random(40) / 2 + 0.4
    after = np.column_stack([best, best - 0.05 * rng.random(40), best + 0.1 * rng.normal(size=40) / 3])
    assert stability.within_noise_of(0, np.clip(after, 0, 1)).tolist() == [True, False, True]


def test_the_smallest_vector_is_taken_then_the_lowest_frequency():
    norms, frequencies = [5.0, 2.0, 1.0, 2.0, 2.0], [0.1, 0.5, 0.1, 0.2, 0.2]
    assert stability.smallest_vector([True, True, False, True, True], norms, frequencies) == 3
    assert stability.smallest_vector([True, False, False, False, False], norms, frequencies) == 0
    with pytest.raises(CorrSteerError, match="no candidate"):
        stability.smallest_vector([False] * 5, norms, frequencies)


@pytest.mark.parametrize(
    ("before", "after"),
    [([], np.zeros((0, 2))), ([0, 1], np.zeros((3, 2))), ([0, 1], [0, 1]), ([0, 2], np.zeros((2, 1)))],
)
def test_what_is_no_table_of_outcomes_is_refused(before, after):
    with pytest.raises(CorrSteerError, match="Outcomes"):
        stability.selection_stability(before, after, seed=0)


def test_impossible_choices_are_refused():
    before, after = made(9)
    with pytest.raises(CorrSteerError, match="one of 3 candidates"):
        stability.selection_stability(before, after, lambda *_: 3, seed=0)
    with pytest.raises(CorrSteerError, match="at least one resample"):
        stability.selection_stability(before, after, resamples=0, seed=0)
    with pytest.raises(CorrSteerError, match="no candidate 5"):
        stability.within_noise_of(5, after)
