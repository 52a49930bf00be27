"""Is it more than a changed prior? The answer of an evaluation in numbers, words and tables, the same on page and report.

Takes the summary that is stored with an evaluation; one whose task has no classes, or of before this was measured, has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corrsteer_core.base.formatting import NOTHING, p_value, percent, points, points_alone, signed
from corrsteer_core.statistics.classes import ClassChange, parted
from corrsteer_core.statistics.classes import sentence as by_class

TITLE = "Is it more than a changed prior?"
EXPLAINED = (
    "Where answers are classes, success can rise merely because one class is answered more often. One constant per class, "
    "added to its log-probability and fitted on validation samples, does that without any feature. Both models get the "
    "constants that serve them best; only what the steered one then has more is beyond a changed prior."
)
DIAMONDS = (
    "Filled diamonds: each model with the one constant per class that serves it best, fitted on validation samples. What "
    "lies between the two is beyond a changed prior."
)
"""How to read them in a chart of rates."""
CLASS_HEADS = ("Class", "Samples", "Right unsteered", "Right steered")
NO_CHOICE = "none of them"
ANSWERED = "What was answered"
"""Title of the classes one by one where nothing is known beyond them."""


@dataclass(frozen=True)
class Figure:
    """One number with what it is and what stands beside it."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Table:
    """A table in words."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class PriorWords:
    """What one constant per class does, what the set does beyond it, and the classes one by one."""

    figures: tuple[Figure, ...]
    classes: Table
    sentence: str
    """The classes' rates before and after, in words; empty without classes that are ever right."""
    confusion: tuple[Table, ...]
    """Right classes against answers, unsteered and steered."""
    remark: str
    """What the task's majority class reaches, the commonest answers, and answers that are none of the classes."""


def prior_words(summary: Mapping[str, Any]) -> PriorWords | None:
    """The block of an evaluation; None where the task has no classes or nothing of it was measured.

    Without figures where no one token tells the classes apart, so that nothing is known of constants.
    """
    constants = bool(summary.get("offset") and summary.get("beyond_prior"))
    if not constants and not summary.get("confusion"):
        return None
    changes = class_changes(summary)
    return PriorWords(
        figures=tuple(_figures(summary)) if constants else (),
        classes=class_table(summary),
        sentence=_sentence(changes),
        confusion=tuple(_confusion(summary.get("confusion") or {})),
        remark=" ".join(_remarks(summary)),
    )


def class_changes(summary: Mapping[str, Any]) -> list[ClassChange]:
    """The rates by class of the right answer that an evaluation has; none where its task has no classes."""
    rows = summary.get("classes") or []
    return [ClassChange(row["class"], row["n"], row["unsteered_rate"], row["steered_rate"]) for row in rows]


def class_table(summary: Mapping[str, Any]) -> Table:
    """The rates by class as a table, without rows where there are no classes."""
    return Table("Right answers by class", CLASS_HEADS, tuple(map(_class_row, class_changes(summary))))


def where_they_part(summary: Mapping[str, Any]) -> str:
    """The classes' rates in a sentence where what happens to them lies apart by more than noise; else ""."""
    changes = class_changes(summary)
    return _sentence(changes) if parted(changes) else ""


def rises_alone(summary: Mapping[str, Any]) -> bool:
    """Whether, on the task's mirror, wrong answers of the kind rise as much as right ones, as far as can be told."""
    if (mirror := summary.get("mirror")) is None:
        return False
    return not (mirror["interval"] and mirror["interval"][0] > 0)


def mirror_words(summary: Mapping[str, Any]) -> str:
    """What a set does on the mirror task, to stand within a sentence; empty where none was measured."""
    mirror = summary.get("mirror")
    if not mirror:
        return ""
    low_high = mirror["interval"]
    spread = f", 95% interval {points_alone(low_high[0])} to {points(low_high[1])}" if low_high else ""
    return (
        f"where such an answer is wrong ({mirror['task']}, {mirror['n']:,} samples) its share goes from "
        f"{mirror['unsteered_rate']:.1%} to {mirror['steered_rate']:.1%}; true less false positives: "
        f"{points(mirror['effect'])}{spread}"
    )


def _sentence(changes: Sequence[ClassChange]) -> str:
    said = by_class(changes)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _figures(summary: Mapping[str, Any]) -> Iterator[Figure]:
    offset, beyond, auc = summary["offset"], summary["beyond_prior"], summary.get("auc")
    yield Figure(
        "One constant per class alone",
        percent(offset["rate"]),
        f"{points(offset['effect'])} without any feature ({p_value(offset['p'])})",
    )
    rates = f"{percent(beyond['unsteered_rate'])} to {percent(beyond['steered_rate'])}"
    between = _between(beyond.get("interval"))
    yield Figure("The set beyond it", points(beyond["effect"]), f"{rates}{between}, {p_value(beyond['p'])}")
    if auc is None:
        yield Figure("AUC", NOTHING, "not defined: on these samples the classes cannot be ranked")
        return
    low_high = auc.get("interval")
    change = signed(auc["steered"] - auc["unsteered"], 3)
    spread = f", 95% interval {signed(low_high[0], 3)} to {signed(low_high[1], 3)}" if low_high else ""
    yield Figure("AUC", f"{auc['unsteered']:.3f} → {auc['steered']:.3f}", f"{change}{spread}; no constant changes it")


def _between(interval: Sequence[float] | None) -> str:
    return f", 95% interval {points_alone(interval[0])} to {points(interval[1])}" if interval else ""


def _class_row(one: ClassChange) -> tuple[str, ...]:
    return one.name, f"{one.n:,}", percent(one.unsteered_rate), percent(one.steered_rate)


def _confusion(found: Mapping[str, Any]) -> Iterator[Table]:
    names = [str(name) for name in found.get("names", ())]
    for side in ("unsteered", "steered"):
        if names and found.get(side):
            rows = tuple(
                (name, *(f"{count:,}" for count in counts)) for name, counts in zip(names, found[side], strict=True)
            )
            yield Table(
                f"Answers {side}", ("Right answer", *(f"answered {name}" for name in (*names, NO_CHOICE))), rows
            )


def _remarks(summary: Mapping[str, Any]) -> Iterator[str]:
    majority = summary.get("majority_rate")
    if majority is not None:
        yield f"Always answering the commonest right class would reach {percent(majority)}."
    answers = summary.get("answers") or {}
    before, after = (answers.get(side) or {} for side in ("unsteered", "steered"))
    if before.get("commonest") is not None and after.get("commonest") is not None:
        yield (
            f"The commonest answer is {before['commonest']} ({percent(before['share'])}) unsteered and "
            f"{after['commonest']} ({percent(after['share'])}) steered."
        )
    if before.get("no_choice") is not None and after.get("no_choice") is not None:
        yield f"{percent(before['no_choice'])} of answers are none of the classes unsteered, {percent(after['no_choice'])} steered."
