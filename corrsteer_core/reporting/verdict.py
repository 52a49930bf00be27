"""What the numbers of an evaluation say, in sentences: does the set work, at what cost, and what it is compared with.

Takes the summary that is stored with an evaluation (see `evaluation.Evaluation.summary`); loads no model. "Works" takes all
of this: success rises by more than noise; where answers are classes, it still does after both models got the constant per
class that serves them best; where one class is always right, wrong answers of that class do not rise alike
(`evaluation.mirror`); and the set beats every control, and every rival that it was put against, sample by sample.
What any of them could overturn is not called so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from corrsteer_core.base.formatting import p_value, points
from corrsteer_core.reporting import tournament_words
from corrsteer_core.reporting.prior_words import class_changes, mirror_words, rises_alone, where_they_part
from corrsteer_core.reporting.rate_rows import CONSTRAINED, FLIPPED, MIRROR, NOT_RANDOM, UNIGRAM
from corrsteer_core.runs.strategies import chosen_by_steering
from corrsteer_core.statistics.classes import sentence as by_class
from corrsteer_core.statistics.power import samples_needed
from corrsteer_core.statistics.rates import NOISE
from corrsteer_core.statistics.rival import control_p

Kind = Literal[
    "works",
    "shifts",
    "selection",
    "no better",
    "outdone",
    "uncontrolled",
    "chosen on",
    "inconclusive",
    "not shown",
    "harmful",
    "nothing",
]

FLUENCY_LOST = 1.0
"""Nats per token by which steered texts may be less likely than unsteered ones before the verdict mentions it."""
SMALL = 0.02
"""An effect whose whole interval lies within this is said to be ruled out, not just not shown."""
MOST_SAMPLES = 100_000
"""More than so many samples are not worth naming."""

WORDS: dict[Kind, str] = {
    "works": "works",
    "shifts": "shifts the answers",
    "selection": "selection alone does as much",
    "no better": "no better than controls",
    "outdone": "another way does as much",
    "uncontrolled": "not compared yet",
    "chosen on": "measured where it was chosen",
    "inconclusive": "inconclusive",
    "not shown": "not shown",
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
    """What a measurement is evidence of, by the rules of this module's first lines.

    Noise is judged by the exact McNemar test (graded outcomes: a sign-flip test; clusters: that of their sums) at 0.05. Where
    near ties alone could turn it, that is said; where rivals were measured (`tournament_words`), the best contender is named.
    Where it does other things to one class of right answers than to another, their rates are named.
    """
    found = _judged(summary)
    named = "" if found.kind == "outdone" else tournament_words.standing(summary)
    apart = "" if _by_class(summary) in found.sentence else where_they_part(summary)
    return Verdict(found.kind, " ".join(filter(None, (found.sentence, apart, named, _turned(summary, found.kind)))))


def _turned(summary: Mapping[str, Any], kind: Kind) -> str:
    """What is added where near ties alone could turn the verdict."""
    if kind == "nothing" or not summary.get("near_ties_could_turn"):
        return ""
    ties, bound = summary["near_ties"], summary["near_tie_bound"]
    return f"Near ties could turn this: on {ties:,} of the samples the first token leads by less than {bound:g} nats."


def _judged(summary: Mapping[str, Any]) -> Verdict:
    before, after, p = summary["unsteered_rate"], summary["steered_rate"], summary["p"]
    moved = f"success {_moved(before, after)} on {summary['n']:,} samples ({p_value(p)})"
    if not summary["positive_flips"] + summary["negative_flips"] and abs(after - before) < 1e-9:
        return Verdict("nothing", f"Does nothing here: no outcome of the {summary['n']:,} samples changed.")
    if p >= NOISE:
        return _not_shown(summary, moved)
    if after < before:
        return Verdict("harmful", f"Harmful: {moved}.")
    if summary.get("chosen_on"):
        return Verdict(
            "chosen on",
            f"No evidence: {moved}, but the set was fitted or chosen on these very samples; measure it on the test split.",
        )
    rival = tournament_words.outdone(summary, moved)
    return (
        _shifts(summary, moved)
        or _rises_alone(summary, moved)
        or _beaten(summary, moved)
        or (Verdict("outdone", rival) if rival else None)
        or _uncontrolled(summary, moved)
        or Verdict("works", f"Works: {moved}{_beyond(summary)}{_against(summary)}.{_loss_of_fluency(summary)}")
    )


def _not_shown(summary: Mapping[str, Any], moved: str) -> Verdict:
    """Noise and absence of evidence are two things: what is ruled out, or how many samples would tell."""
    low, high = summary.get("effect_interval") or (-1.0, 1.0)
    if low >= -SMALL and high <= SMALL:
        return Verdict("not shown", f"No effect worth the name: {moved}; more than {points(high)} is ruled out.")
    if summary["steered_rate"] <= summary["unsteered_rate"]:
        return Verdict("not shown", f"Not shown: {moved}.")
    if summary.get("test", "mcnemar") != "mcnemar":  # how many would be needed is known for flips alone
        return Verdict("inconclusive", f"Inconclusive: {moved}.")
    n = summary["n"]
    needed = samples_needed(summary["positive_flips"] / n, summary["negative_flips"] / n)
    if needed is None or needed > MOST_SAMPLES:
        return Verdict("not shown", f"Not shown: {moved}.")
    more = (
        f"about {needed:,} samples would be needed to show it in 4 of 5 tries" if needed > n else "another sample may"
    )
    return Verdict("inconclusive", f"Inconclusive: {moved}; if the effect is what it looks like, {more}.")


def _shifts(summary: Mapping[str, Any], moved: str) -> Verdict | None:
    """The verdict where nothing is left beyond one constant per class."""
    beyond = summary.get("beyond_prior")
    if beyond is None or (beyond["effect"] > 0 and beyond["p"] < NOISE):
        return None
    return Verdict(
        "shifts",
        f"Shifts the answers: {moved}, but one constant per class takes the unsteered model to "
        f"{beyond['unsteered_rate']:.1%}, and the steered one to {beyond['steered_rate']:.1%} ({points(beyond['effect'])}, "
        f"{p_value(beyond['p'])}){_by_class(summary)}.",
    )


def _rises_alone(summary: Mapping[str, Any], moved: str) -> Verdict | None:
    """The verdict where such answers rise as much where they are wrong."""
    alone = rises_alone(summary)
    return Verdict("shifts", f"Shifts the answers: {moved}, but {mirror_words(summary)}.") if alone else None


def _by_class(summary: Mapping[str, Any]) -> str:
    said = by_class(class_changes(summary))
    return f"; {said}" if said else ""


def _beaten(summary: Mapping[str, Any], moved: str) -> Verdict | None:
    """The verdict when some rival is not beaten beyond noise."""
    limited = summary.get("constrained", {}).get(CONSTRAINED)
    if limited is not None and not _won(summary, CONSTRAINED, limited):
        return Verdict(
            "no better",
            f"No better than controls: {moved}, but unsteered answers limited to the choices are not beaten beyond noise "
            f"({points(limited['effect'])}).",
        )
    for kind, group, opening in (
        ("selection", "matched", "Selection alone does as much"),
        ("no better", "controls", "No better than controls"),
    ):
        rivals = {name: one["effect"] for name, one in summary.get(group, {}).items() if not _won(summary, name, one)}
        if rivals:
            best = max(rivals, key=rivals.__getitem__)
            return Verdict(kind, f"{opening}: {moved}, but {_named(best, group)} ({points(rivals[best])}).")  # type: ignore[arg-type]
    return None


def _won(summary: Mapping[str, Any], name: str, rival: Mapping[str, Any]) -> bool:
    """Whether the set beats a rival beyond noise, on the same samples; by rates alone where no more was kept."""
    beside = summary.get("against", {}).get(name)
    if beside is None:
        return rival["effect"] < summary["steered_rate"] - summary["unsteered_rate"] - 1e-9
    return beside["difference"] > 0 and beside["p"] < NOISE


def _named(rival: str, group: str) -> str:
    if group == "matched":
        return "the same choice among random features is not beaten beyond noise"
    if rival == UNIGRAM:
        return "a constant push on words does as much"
    what = "turning its sign round" if rival == FLIPPED else "a random set of the same size"
    return f"{what} is not beaten beyond noise"


def _uncontrolled(summary: Mapping[str, Any], moved: str) -> Verdict | None:
    """The verdict while what "works" takes has not been measured."""
    if "chosen_on" not in summary:
        lacking = "it was measured by a release that did not look for a shifted prior; measure it again"
    elif any(one["rival"] == MIRROR for one in summary.get("left_out") or ()):
        lacking = "it could not be measured where such an answer is wrong"
    elif "classes" in summary and summary.get("beyond_prior") is None:
        lacking = "it could not be measured whether one constant per class does as much"
    elif not _random(summary):
        lacking = "it has not been compared with random features yet"
    elif chosen_by_steering(summary.get("strategy")) and not summary.get("matched"):
        lacking = "it has not been compared with the same choice among random features yet"
    else:
        return None
    return Verdict("uncontrolled", f"Not compared yet: {moved}, but {lacking}.")


def _beyond(summary: Mapping[str, Any]) -> str:
    beyond = summary.get("beyond_prior")
    if beyond is None:
        return ""
    return f", {points(beyond['effect'])} of it beyond what one constant per class does ({p_value(beyond['p'])}){_by_class(summary)}"


def _against(summary: Mapping[str, Any]) -> str:
    random = _random(summary)
    mean = points(sum(random) / len(random))
    said = (
        f"; {len(random)} random sets of like size: {mean} on average, {points(min(random))} to {points(max(random))}"
    )
    if len(random) == 1:
        said = f"; a random set of like size: {mean}"
    if len(random) >= 19:
        # Beyond the prior, where there are classes; of a measurement of before it was kept, by the rates.
        p = summary.get("permutation_p")
        p = control_p(summary["steered_rate"] - summary["unsteered_rate"], random) if p is None else p
        said += f" (permutation {p_value(p)})"
    if mirror := mirror_words(summary):
        said += f"; {mirror}"
    push = summary["controls"].get(UNIGRAM)
    said += f"; its push on words as one constant: {points(push['effect'])}" if push else ""
    matched = [one["effect"] for one in summary.get("matched", {}).values()]
    return said + (
        f"; {len(matched)} chosen alike among random features: at most {points(max(matched))}" if matched else ""
    )


def _random(summary: Mapping[str, Any]) -> list[float]:
    """Effects of the random sets of like size."""
    return [one["effect"] for name, one in summary.get("controls", {}).items() if name not in NOT_RANDOM]


def _loss_of_fluency(summary: Mapping[str, Any]) -> str:
    loss = fluency_loss(summary)
    if loss is None or loss <= FLUENCY_LOST:
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
        f"What was seen is compatible with a true effect from {points(low)} to {points(high)} "
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
    reading = "no less fluent" if loss <= 0 else "a little less fluent" if loss <= FLUENCY_LOST else "far less fluent"
    return (
        f"The steered texts are {reading}: the unsteered model finds them {after:.2f} nats per token unlikely, its own "
        f"texts {before:.2f}."
    )


def _moved(before: float, after: float) -> str:
    if after == before:
        return f"stays at {after:.1%}"
    return f"{'rises' if after > before else 'falls'} from {before:.1%} to {after:.1%}"


def _number(value: Any) -> float | None:
    """A number, or None for what JSON or pandas leave in place of an undefined one."""
    return None if value is None or math.isnan(value) else float(value)
