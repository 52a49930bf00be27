"""What the numbers of an evaluation say, in sentences: does the set work, at what cost, and what it is compared with.

Takes the summary that is stored with an evaluation (see `evaluation.Evaluation.summary`); loads no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

Kind = Literal["works", "noise", "no better", "harmful", "nothing"]

NOISE = 0.05
"""A paired p-value not below this is within noise."""
FLIPPED = "sign flipped"
"""Name of the control that turns the set's sign round; the others are random features of like frequency and norm."""
CONSTRAINED = "constrained"
"""Name of the unsteered answers to multiple choice that are held to the choices."""
DEBRIS = 1.0
"""Nats per token by which steered texts may be less likely than unsteered ones before the verdict mentions it."""

WORDS: dict[Kind, str] = {
    "works": "works",
    "noise": "no better than chance",
    "no better": "no better than controls",
    "harmful": "harmful",
    "nothing": "no effect",
}


@dataclass(frozen=True)
class Verdict:
    """One word for a set, and the sentence that says why."""

    kind: Kind
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def verdict(summary: Mapping[str, Any]) -> Verdict:
    """Whether the set raises success by more than noise and by more than any vector of its size.

    Noise is judged by the exact McNemar test; "no better" means that a random control, the set with
    its sign turned round, or constrained decoding without steering raises success at least as much.
    """
    before, after, p = summary["unsteered_rate"], summary["steered_rate"], summary["p"]
    moved = f"success {_moved(before, after)} on {summary['n']:,} samples ({_p(p)})"
    won, lost = summary["positive_flips"], summary["negative_flips"]
    if not won + lost and abs(after - before) > 1e-9:  # graded outcomes only
        return Verdict(
            "noise",
            f"No better than chance: the average outcome goes from {before:.1%} to {after:.1%}, but none of the "
            f"{summary['n']:,} samples changed between failure and success, which is what the test counts.",
        )
    if not won + lost:
        return Verdict("nothing", f"Does nothing here: no outcome of the {summary['n']:,} samples changed.")
    if p >= NOISE:
        return Verdict("noise", f"No better than chance: {moved}; flips this uneven come about by chance.")
    if (after - before) * (won - lost) <= 0:  # graded outcomes only
        return Verdict(
            "noise",
            f"No better than chance: {moved}, but {won} samples went from failure to success and {lost} back, so the average "
            f"and the flips point opposite ways.",
        )
    if after < before:
        return Verdict("harmful", f"Harmful: {moved}.")
    rivals = _rivals(summary)
    return _no_better(summary, rivals, moved) or Verdict(
        "works", f"Works: {moved}{_against(rivals)}.{_debris(summary)}"
    )


def _rivals(summary: Mapping[str, Any]) -> dict[str, float]:
    return {name: one["effect"] for name, one in summary.get("controls", {}).items()}


def _no_better(summary: Mapping[str, Any], rivals: Mapping[str, float], moved: str) -> Verdict | None:
    """The verdict when a control raises success as much as the set does; equal counts, up to rounding, are as much."""
    enough = summary["steered_rate"] - summary["unsteered_rate"] - 1e-9
    free = summary.get("constrained", {}).get(CONSTRAINED)
    if free is not None and free["effect"] >= enough:
        return Verdict(
            "no better",
            f"No better than controls: {moved}, but unsteered answers held to the choices do as much "
            f"({_points(free['effect'])}).",
        )
    best = max(rivals, key=rivals.__getitem__, default=None)
    if best is not None and rivals[best] >= enough:
        rival = "turning its sign round" if best == FLIPPED else "a random set of the same size"
        return Verdict(
            "no better", f"No better than controls: {moved}, but {rival} does as much ({_points(rivals[best])})."
        )
    return None


def _against(rivals: Mapping[str, float]) -> str:
    random = [effect for name, effect in rivals.items() if name != FLIPPED]
    if not random:
        return "; not compared with random features yet"
    if len(random) == 1:
        return f"; a random set of like size: {_points(random[0])}"
    mean = _points(sum(random) / len(random))
    return (
        f"; {len(random)} random sets of like size: {mean} on average, {_points(min(random))} to {_points(max(random))}"
    )


def _debris(summary: Mapping[str, Any]) -> str:
    loss = fluency_loss(summary)
    if loss is None or loss <= DEBRIS:
        return ""
    return " But the steered texts are far less fluent: read them before you believe it."


def fluency_loss(summary: Mapping[str, Any]) -> float | None:
    """How much less likely the steered texts are to the unsteered model, in nats per token; None if not measured."""
    before, after = (_number(summary.get("fluency", {}).get(side)) for side in ("unsteered", "steered"))
    return None if before is None or after is None else after - before


def gain_words(summary: Mapping[str, Any]) -> str:
    """The paired 95% interval of the effect in a sentence; empty where there is none, or where all samples moved alike."""
    low, high = summary.get("effect_interval") or (0.0, 0.0)
    if low == high:
        return ""
    return (
        f"What was seen is compatible with a true effect from {_points(low)} to {_points(high)} "
        f"(95%, each sample compared with itself)."
    )


def side_effects(summary: Mapping[str, Any]) -> str:
    """The side effect ratio in a sentence."""
    won, lost, ratio = summary["positive_flips"], summary["negative_flips"], _number(summary["ser"])
    if ratio is None:
        return "No outcome flipped, so there is no side effect ratio."
    if ratio > 0.5:
        reading = "more harm than good"
    elif ratio == 0.5:
        reading = "as much harm as good"
    else:
        reading = "nothing was lost" if lost == 0 else "a share of 0.5 would be as much harm as good"
    return f"Of {won + lost} flips, {lost} went from success to failure: {reading}."


def fluency_words(summary: Mapping[str, Any]) -> str:
    """Fluency of both texts in a sentence; empty if it was not measured."""
    loss = fluency_loss(summary)
    if loss is None:
        return ""
    before, after = summary["fluency"]["unsteered"], summary["fluency"]["steered"]
    reading = "no less fluent" if loss <= 0 else "a little less fluent" if loss <= DEBRIS else "far less fluent"
    return (
        f"The steered texts are {reading}: the unsteered model finds them {after:.2f} nats per token unlikely, its own "
        f"texts {before:.2f}."
    )


def rates(summary: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Success rates for a chart, one row each: label, kind (unsteered, steered, control), rate, low, high, effect.

    `name` is the set's. Unsteered first, then the set, then its controls. Intervals are Wilson's at 95%.
    """
    return pd.DataFrame(list(_rate_rows(summary, name)))


def _rate_rows(summary: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    def row(label: str, kind: str, rate: float, interval: Any) -> dict[str, Any]:
        effect = rate - summary["unsteered_rate"]
        return {"label": label, "kind": kind, "rate": rate, "low": interval[0], "high": interval[1], "effect": effect}

    yield row("unsteered", "unsteered", summary["unsteered_rate"], summary["unsteered_interval"])
    yield row(name, "steered", summary["steered_rate"], summary["steered_interval"])
    for control, one in summary.get("controls", {}).items():
        yield row(control, "control", one["steered_rate"], one["steered_interval"])


def with_flips(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples of an evaluation with `flip`: won, lost, changed (text only) or same."""
    before, after = samples["outcome_unsteered"] > 0.5, samples["outcome_steered"] > 0.5
    flip = pd.Series("same", index=samples.index)
    flip[samples["unsteered"] != samples["steered"]] = "changed"
    flip[~before & after] = "won"
    flip[before & ~after] = "lost"
    return samples.assign(flip=flip)


def _moved(before: float, after: float) -> str:
    return f"{'stays at' if after == before else 'rises' if after > before else 'falls'}" + (
        f" {after:.1%}" if after == before else f" from {before:.1%} to {after:.1%}"
    )


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points".replace("-", "\u2212")


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _number(value: Any) -> float | None:
    """A number, or None for what JSON or pandas leave in place of an undefined one."""
    return None if value is None or math.isnan(value) else float(value)
