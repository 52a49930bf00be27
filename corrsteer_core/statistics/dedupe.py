"""Samples that are there twice: the same prompt, the same prompt with another target, nearly the same one in another split.

A prompt seen while fitting is no test. Two prompts are the same if they differ only in Unicode form, case and white space;
near-duplicates share at least nine in ten of their different words (Jaccard index of their sets of words; Broder 1997, On
the resemblance and containment of documents). Pairs are found exactly, by prefix filtering: Chaudhuri, Ganti & Kaushik 2006
(ICDE, section 3), Bayardo, Ma & Srikant 2007 (WWW).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.rates import FloatArray
from corrsteer_core.tasks.splits import normalised

IntArray = NDArray[np.int64]

THRESHOLD = 0.9
"""Jaccard index of two sets of words from which prompts are near-duplicates."""

# Overlaps are whole numbers: .9 * 10 must ask for 9 words, not 10.
_ROUNDING = 1e-9
_ROWS = 512  # prompts compared with all others at once
_PAIRS = 200_000  # pairs whose common words are counted at once

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class NearDuplicate:
    """Sample `index` and the most similar sample `other` of another split: positions among the prompts."""

    index: int
    other: int
    similarity: float


def words_of(prompt: str) -> frozenset[str]:
    """The different words of a prompt, case aside; of one without any word, the prompt itself."""
    text = normalised(prompt)
    return frozenset(_WORD.findall(text)) or frozenset([text])


def exact_duplicates(prompts: Sequence[str]) -> list[list[int]]:
    """Groups of positions with the same prompt, two or more each, in the order of their first."""
    groups: dict[str, list[int]] = {}
    for position, prompt in enumerate(prompts):
        groups.setdefault(normalised(prompt), []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def contradictions(prompts: Sequence[str], targets: Sequence[Hashable]) -> list[list[int]]:
    """The groups of `exact_duplicates` whose targets are not all equal: whatever is answered, some count it as wrong."""
    if len(prompts) != len(targets):
        raise CorrSteerError(f"Every prompt needs a target; found {len(targets)} for {len(prompts)} prompts.")
    return [group for group in exact_duplicates(prompts) if len({targets[i] for i in group}) > 1]


def near_duplicates(prompts: Sequence[str], splits: Sequence[str], threshold: float = THRESHOLD) -> list[NearDuplicate]:
    """For every sample that has near-duplicates in another split, the most similar one (the first of several).

    Exact duplicates across splits are among them, with similarity 1. `splits`: one name per prompt. Sorted by `index`.
    Raises CorrSteerError for lengths that differ or a threshold outside (0, 1].
    """
    if len(prompts) != len(splits):
        raise CorrSteerError(f"Every prompt needs a split; found {len(splits)} for {len(prompts)} prompts.")
    if not 0 < threshold <= 1:
        raise CorrSteerError(f"A threshold of similarity must lie above 0 and at most at 1; found {threshold}.")
    # Samples of one split with the same words are one unit: templates would make their pairs too many.
    units: dict[tuple[frozenset[str], str], list[int]] = {}
    for position, (prompt, split) in enumerate(zip(prompts, splits, strict=True)):
        units.setdefault((words_of(prompt), split), []).append(position)
    numbers = {split: number for number, split in enumerate(dict.fromkeys(splits))}
    split_of = np.array([numbers[split] for _, split in units], dtype=np.int64)
    best = _best_partners(_word_matrix([words for words, _ in units]), split_of, threshold)
    members = list(units.values())
    found = [NearDuplicate(i, members[other][0], value) for unit, (other, value) in best.items() for i in members[unit]]
    return sorted(found, key=lambda pair: pair.index)


# --- pairs of sets of words --------------------------------------------------------------------


def _word_matrix(sets: Sequence[frozenset[str]]) -> csr_array:
    """Sets as rows of 0 and 1, (sets, words), words numbered from the rarest on and sorted within each row."""
    counts: dict[str, int] = {}
    for words in sets:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    rank = {word: place for place, word in enumerate(sorted(counts, key=lambda word: (counts[word], word)))}
    rows = [sorted(rank[word] for word in words) for words in sets]
    ends = np.cumsum([0, *map(len, rows)])
    columns = np.array([column for row in rows for column in row], dtype=np.int64)
    return csr_array((np.ones(len(columns), dtype=np.int32), columns, ends), shape=(len(rows), len(rank)))


def _best_partners(sets: csr_array, split_of: IntArray, threshold: float) -> dict[int, tuple[int, float]]:
    """For each row with a similar row of another split: the most similar one, the lowest of several, and how similar."""
    best: dict[int, tuple[int, float]] = {}
    for left, right in _candidates(sets, split_of, threshold):
        similarity = _jaccard(sets, left, right)
        close = similarity >= threshold - _ROUNDING
        left, right, similarity = left[close], right[close], similarity[close]
        order = np.lexsort((right, -similarity, left))
        firsts = order[np.unique(left[order], return_index=True)[1]]  # all pairs of one row come in one block
        best |= {int(left[i]): (int(right[i]), float(similarity[i])) for i in firsts}
    return best


def _candidates(sets: csr_array, split_of: IntArray, threshold: float) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs of rows that may be similar enough, in blocks that hold all pairs of some left rows.

    Sets of sizes s and t with Jaccard index j share at least j max(s, t) words, so their prefixes, the s - ceil(j s) + 1
    rarest words of one and likewise of the other, share one: only pairs with a common word there need to be counted.
    """
    sizes = np.diff(sets.indptr)
    prefix = sizes - np.ceil(threshold * sizes - _ROUNDING).astype(np.int64) + 1
    place = np.arange(sets.nnz) - np.repeat(sets.indptr[:-1], sizes)
    kept = place < np.repeat(prefix, sizes)
    ends = np.concatenate([[0], np.cumsum(prefix)])
    rare = csr_array((sets.data[kept], sets.indices[kept], ends), shape=sets.shape)
    by_word, signatures = csr_array(rare.T), _signatures(sets)
    for start in range(0, sets.shape[0], _ROWS):
        shared = (rare[start : start + _ROWS] @ by_word).tocoo()
        left, right = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        smaller, larger = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        possible = (split_of[left] != split_of[right]) & (smaller >= threshold * larger - _ROUNDING)
        left, right, total = left[possible], right[possible], (smaller + larger)[possible]
        # Of s + t words in both sets together, (1 - j) / (1 + j) at most stand in one set alone.
        alone = _alone_at_least(signatures, left, right)
        possible = alone <= (1 - threshold) / (1 + threshold) * total + _ROUNDING
        yield left[possible], right[possible]


def _signatures(sets: csr_array) -> NDArray[np.uint64]:
    """256 bits per row, (sets, 4): bit w mod 256 tells whether the number of the row's words of that kind is odd."""
    signatures = np.zeros((sets.shape[0], 4), dtype=np.uint64)
    rows, kinds = np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr)), sets.indices % 256
    np.bitwise_xor.at(signatures, (rows, kinds // 64), np.uint64(1) << (kinds % 64).astype(np.uint64))
    return signatures


def _alone_at_least(signatures: NDArray[np.uint64], left: IntArray, right: IntArray) -> IntArray:
    """At least so many words stand in only one of two rows: each of them turns one bit, common words none. (pairs,)"""
    turned = np.zeros(len(left), dtype=np.int64)
    for part in range(signatures.shape[1]):
        turned += np.bitwise_count(signatures[left, part] ^ signatures[right, part])
    return turned


def _jaccard(sets: csr_array, left: IntArray, right: IntArray) -> FloatArray:
    """Common words / different words of the pairs of rows: (pairs,)."""
    sizes, common = np.diff(sets.indptr), np.zeros(len(left), dtype=np.int64)
    for start in range(0, len(left), _PAIRS):
        part = slice(start, start + _PAIRS)
        common[part] = sets[left[part]].multiply(sets[right[part]]).sum(axis=1)
    return common / (sizes[left] + sizes[right] - common)
