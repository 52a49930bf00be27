"""What a set was measured against: in the few groups that one small picture can show, and what that rests on, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from corrsteer_core.base.formatting import p_value, percent
from corrsteer_core.reporting.prior_words import mirror_words
from corrsteer_core.reporting.rate_rows import BEYOND, MIRROR, NOT_RANDOM, UNIGRAM, rate_row, rates, shown_as

RANDOM = "random features"
CHOSEN_ALIKE = "random, chosen alike"
CONSTANT = "constants, no SAE"
PROMPTS = "better prompts"
STORED_BEFORE = {"its push on words as one constant": UNIGRAM}
"""Names under which releases before kept a control that they left out."""

LIKE = 0.05
"""Share of training samples by which the frequency of a random feature may differ from that of the one it stands for."""


def grouped(summary: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Success rates of one measurement, a row each: group, kind, rate, low, high (Wilson's at 95%).

    `name` is the set's. Groups from above: unsteered, the set, then what it is compared with; a group of controls has a
    row for each of them.
    """
    rows = rates(summary, name)
    rows = rows[rows["kind"] != "steered-offset"]
    controls = rows["kind"] == "control"
    rows["group"] = rows["label"].where(~controls, rows["label"].map(lambda label: _group(summary, label)))
    rows.loc[rows["kind"] == "offset", "group"] = CONSTANT
    return pd.concat([rows, _tried_first(summary)])[["group", "kind", "rate", "low", "high"]].reset_index(drop=True)


def _group(summary: Mapping[str, Any], label: str) -> str:
    """The group of a control."""
    if label in summary.get("matched", {}):
        return CHOSEN_ALIKE
    return RANDOM if label.startswith("random ") else label


def _tried_first(summary: Mapping[str, Any]) -> pd.DataFrame:
    """The rivals of a tournament, but for the offset, which has its row."""
    rows = [
        rate_row(summary, one["rival"], "control", one["rate"], one["rate_interval"])
        | {"group": PROMPTS if one["kind"] == "prompt" else one["rival"]}
        for one in summary.get("tournament") or ()
        if one["kind"] != "offset"
    ]
    return pd.DataFrame(rows)


def caveats(summary: Mapping[str, Any]) -> str:
    """The sentences, one after another; empty where there is nothing to say."""
    found = [
        *_clusters(summary),
        *_mirror(summary),
        *_graded(summary),
        *_random(summary),
        *_frequencies(summary),
        *_ties(summary),
    ]
    return " ".join(found)


def test_name(summary: Mapping[str, Any]) -> str:
    """The test that a measurement's p is of; one of before tests were named is of the last."""
    named = {"clusters": "sign-flip test of clusters", "sign flip": "sign-flip test"}
    return named.get(summary.get("test", ""), "exact McNemar test")


def missing_controls(summary: Mapping[str, Any]) -> str:
    """Which controls there cannot be of the set, and why, in sentences; empty if there are none."""
    return _not_measured(summary, controls=True)


def missing_rivals(summary: Mapping[str, Any]) -> str:
    """Which rivals were asked for and could not be measured, and why; empty if there are none."""
    return _not_measured(summary, controls=False)


def caveats_and_missing(summary: Mapping[str, Any]) -> str:
    """All of these, for a page that says them in one place."""
    return " ".join(filter(None, (caveats(summary), missing_controls(summary), missing_rivals(summary))))


def _not_measured(summary: Mapping[str, Any], *, controls: bool) -> str:
    named = ((STORED_BEFORE.get(one["rival"], one["rival"]), one["why"]) for one in summary.get("left_out") or ())
    said = (
        f"Not measured: {shown_as(name)}. {why}"
        for name, why in named
        if (name in (*NOT_RANDOM, BEYOND, MIRROR)) == controls
    )
    return " ".join(dict.fromkeys(said))


def _mirror(summary: Mapping[str, Any]) -> Iterator[str]:
    if said := mirror_words(summary):
        yield f"{said[0].upper()}{said[1:]}."


def _clusters(summary: Mapping[str, Any]) -> Iterator[str]:
    if summary.get("clusters"):
        yield (
            f"The {summary['n']:,} samples come in {summary['clusters']:,} clusters (of one template or text each); p and "
            f"intervals of differences take clusters, not samples, for independent."
        )


def _graded(summary: Mapping[str, Any]) -> Iterator[str]:
    if summary.get("test") == "sign flip":
        yield "Outcomes are graded; p is that of a sign-flip test of their differences, not of flips."


def _random(summary: Mapping[str, Any]) -> Iterator[str]:
    p, random = summary.get("permutation_p"), [name for name in summary.get("controls", {}) if name not in NOT_RANDOM]
    if p is not None and random:
        yield f"Among the set and {len(random)} random sets, as good a one is found with {p_value(p)} (permutation)."


def _frequencies(summary: Mapping[str, Any]) -> Iterator[str]:
    found = summary.get("frequencies") or {}
    random = [found[name] for name in summary.get("controls", {}) if name not in NOT_RANDOM and name in found]
    if not random or not found.get(""):
        return
    off = [abs(theirs - own) for one in random for own, theirs in zip(found[""], one, strict=True)]
    yield (
        f"The set's features fire in {_between(found[''])} of training samples, those of its random sets in "
        f"{_between([share for one in random for share in one])}; one and the feature it stands for differ by at most "
        f"{100 * max(off):.1f} points"
        + (f", more than the {100 * LIKE:g} aimed at: there are no closer ones." if max(off) > LIKE + 1e-9 else ".")
    )


def _between(shares: list[float]) -> str:
    low, high = percent(min(shares)), percent(max(shares))
    return low if low == high else f"{low} to {high}"


def _ties(summary: Mapping[str, Any]) -> Iterator[str]:
    bound, ties, needed = (summary.get(name) for name in ("near_tie_bound", "near_ties", "flips_to_turn"))
    if bound is None or not ties:
        return
    said = (
        f"On {ties:,} of {summary['n']:,} samples the first token leads by less than {bound:g} nats, unsteered or steered: "
        f"other arithmetic ({summary.get('dtype') or 'its type'} was used) may turn them"
    )
    yield f"{said}; it takes {needed:,} to turn p across 0.05." if needed else f"{said}."
