"""dedupe.py against a comparison of all pairs, and prompts whose likeness is plain to see."""

from __future__ import annotations

import numpy as np
import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics import dedupe
from corrsteer_core.statistics.dedupe import NearDuplicate


def test_prompts_that_differ_in_case_space_and_unicode_form_are_the_same():
    prompts = ["A  good film.", "bad", "a good\nfilm.", "A good film!", "ＢＡＤ", "other"]
    assert dedupe.exact_duplicates(prompts) == [[0, 2], [1, 4]]
    assert dedupe.exact_duplicates([]) == []


def test_the_same_prompt_with_another_target_contradicts_itself():
    prompts = ["x", "y", "X", "y ", "z", "x"]
    assert dedupe.contradictions(prompts, ["A", "A", "B", "A", "C", "A"]) == [[0, 2, 5]]
    assert dedupe.contradictions(prompts, ["A", "A", "A", "A", "B", "A"]) == []
    with pytest.raises(CorrSteerError, match="target"):
        dedupe.contradictions(["x"], [])


TEN = "one two three four five six seven eight nine ten"


def test_nine_of_ten_words_in_common_are_near():
    longer = TEN + " eleven"  # 10 of 11: .909
    replaced = TEN.replace("ten", "zehn")  # 9 of 11: .818
    assert dedupe.near_duplicates([TEN, longer], ["train", "test"]) == [
        NearDuplicate(0, 1, pytest.approx(10 / 11)),
        NearDuplicate(1, 0, pytest.approx(10 / 11)),
    ]
    assert dedupe.near_duplicates([TEN, replaced], ["train", "test"]) == []
    assert len(dedupe.near_duplicates([TEN, replaced], ["train", "test"], threshold=0.8)) == 2


def test_a_similarity_of_exactly_the_threshold_counts():
    nine = TEN.rsplit(" ", 1)[0]
    assert [pair.similarity for pair in dedupe.near_duplicates([TEN, nine], ["a", "b"])] == [0.9, 0.9]


def test_only_other_splits_count_and_the_most_similar_is_named():
    prompts = [TEN, TEN + " more", TEN, TEN + " eleven", TEN.upper(), "nothing alike"]
    splits = ["train", "train", "train", "test", "validation", "test"]
    found = {pair.index: (pair.other, pair.similarity) for pair in dedupe.near_duplicates(prompts, splits)}
    assert found[0] == (4, 1)
    assert found[2] == (4, 1)
    assert found[4] == (0, 1)
    assert found[3][0] == 0
    assert found[1][0] == 4
    assert 5 not in found


def test_the_order_of_words_and_punctuation_do_not_matter_and_no_words_compare_as_they_are():
    assert [p.similarity for p in dedupe.near_duplicates(["Bad, not good!", "good not bad"], ["a", "b"])] == [1, 1]
    assert dedupe.near_duplicates(["???", "!!!"], ["a", "b"]) == []
    assert len(dedupe.near_duplicates(["???", "???"], ["a", "b"])) == 2
    assert dedupe.near_duplicates([], []) == []


def by_all_pairs(prompts, splits, threshold):
    """Every pair compared, the slow way."""
    sets = [dedupe.words_of(prompt) for prompt in prompts]
    found = []
    for i, words in enumerate(sets):
        scores = [
            (len(words & other) / len(words | other), -j) for j, other in enumerate(sets) if splits[j] != splits[i]
        ]
        best, j = max(scores)
        if best >= threshold - 1e-9:
            found.append((i, -j, pytest.approx(best)))
    return found


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_a_comparison_of_all_pairs_finds(seed, threshold, monkeypatch):
    monkeypatch.setattr(dedupe, "_ROWS", 7)
    monkeypatch.setattr(dedupe, "_PAIRS", 11)
    rng = np.random.default_rng(seed)
    kinds = [rng.zipf(1.3, size=rng.integers(1, 25)) % 60 for _ in range(25)]
    prompts = []
    for _ in range(120):
        words = [f"w{word}" for word in kinds[rng.integers(25)]]
        words = [word if rng.random() > 0.03 else f"v{rng.integers(40)}" for word in words]
        prompts.append(" ".join(rng.permutation(words)))
    splits = rng.choice(["train", "validation", "test"], size=120).tolist()
    found = [(p.index, p.other, p.similarity) for p in dedupe.near_duplicates(prompts, splits, threshold)]
    assert found == by_all_pairs(prompts, splits, threshold)
    assert found


def test_what_does_not_fit_is_refused():
    with pytest.raises(CorrSteerError, match="split"):
        dedupe.near_duplicates(["x"], [])
    for threshold in (0, 1.1, float("nan")):
        with pytest.raises(CorrSteerError, match="threshold"):
            dedupe.near_duplicates(["x"], ["a"], threshold)
