"""Dividing items among train, validation and test, and taking fewer of them.

Everything is decided by hashes of (seed, prompt), never by the order of rows, so that the same rows are
always divided the same way, and nothing used to fit is ever in validation or test.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from corrsteer_core.tasks.base import SHIFTED, SPLITS, Item, Split

# 50 / 20 / 30 and, for what is left beside a published test set, 5 / 2. Every stretch of ten (seven) has
# exactly these shares, and the first three hold one of each.
_T, _V, _E = SPLITS
ALL_THREE: tuple[Split, ...] = (_T, _V, _E, _T, _T, _E, _T, _V, _T, _E)
FIT_ONLY: tuple[Split, ...] = (_T, _V, _T, _T, _V, _T, _T)


def order_key(seed: int, *parts: str) -> bytes:
    """A place in a seeded shuffle that depends on nothing but its arguments."""
    return hashlib.blake2b("\0".join((str(seed), *parts)).encode(), digest_size=16).digest()


def normalised(prompt: str) -> str:
    """What makes two prompts the same: Unicode form, case and white space aside."""
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())


def drop_duplicates(prompts: Iterable[str]) -> list[int]:
    """Positions of the first copy of each prompt."""
    seen: dict[str, int] = {}
    for position, prompt in enumerate(prompts):
        seen.setdefault(normalised(prompt), position)
    return sorted(seen.values())


def assign(items: Sequence[Item], seed: int, pattern: Sequence[Split]) -> list[Item]:
    """The items, in their order, with a split each: strata one after the other, dealt out along the pattern.

    Shares are exact to within one item overall, and to within one per stratum and split for strata of any size.
    """
    dealt = sorted(
        range(len(items)),
        key=lambda i: (order_key(seed, items[i].stratum), order_key(seed, normalised(items[i].prompt))),
    )
    result = list(items)
    for place, i in enumerate(dealt):
        result[i] = replace(items[i], split=pattern[place % len(pattern)])
    return result


def held_to(known: Iterable[Item], items: Iterable[Item]) -> list[Item]:
    """The items, those with the prompt of a known one in its split: a file that has grown deals its rows out again."""
    splits = {normalised(item.prompt): item.split for item in known}
    return [replace(item, split=splits.get(normalised(item.prompt), item.split)) for item in items]


def limited(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    """At most `limit` items, each split and stratum in proportion, in the order they came.

    A smaller limit's items are among a larger one's (but for rare ties in the shares of the splits).
    """
    if limit >= len(items):
        return list(items)
    by_split = {split: [i for i, item in enumerate(items) if item.split == split] for split in (*SPLITS, SHIFTED)}
    shares = apportion([len(members) for members in by_split.values()], limit)
    chosen: set[int] = set()
    for members, share in zip(by_split.values(), shares, strict=True):
        chosen.update(in_turn(items, members, seed)[:share])
    return [item for i, item in enumerate(items) if i in chosen]


def apportion(sizes: Sequence[int], total: int) -> list[int]:
    """`total` seats in proportion to sizes by largest remainder; no non-empty one gets none if it can be helped."""
    whole = sum(sizes)
    shares = [total * size // whole for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-(total * sizes[i] % whole), i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    for i, size in enumerate(sizes):
        if size and not shares[i] and max(shares) > 1:
            shares[shares.index(max(shares))] -= 1
            shares[i] = 1
    return shares


def in_turn(items: Sequence[Item], members: Sequence[int], seed: int) -> list[int]:
    """One split's items in the order in which limits take them: every beginning is stratified."""
    strata: dict[str, list[int]] = defaultdict(list)
    for i in members:
        strata[items[i].stratum].append(i)
    places: list[tuple[float, bytes, int]] = []
    for stratum, inside in strata.items():
        # Systematic sampling: a stratum of n takes the places (u, 1 + u, ...) / n, u its own seeded start.
        start = int.from_bytes(order_key(seed, "start", stratum)[:6]) / 2**48
        keys = sorted((order_key(seed, normalised(items[i].prompt)), i) for i in inside)
        places += [((rank + start) / len(keys), key, i) for rank, (key, i) in enumerate(keys)]
    return [i for _, _, i in sorted(places)]
