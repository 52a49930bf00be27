"""The tournament of an evaluation in words, as a chart's rows and as a table: is the set what its user should reach for?

Takes the summary that is stored with an evaluation; one without a tournament has none of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from corrsteer_core.base.formatting import p_value, percent, points
from corrsteer_core.reporting.rate_rows import rate_row
from corrsteer_core.statistics.rates import NOISE

TITLE = "Against what would be tried first"
EXPLAINED = (
    "Each point is a success rate on the same samples, the bar its 95% interval, the dashed line the unsteered rate. The "
    "orange circle is the set; the others cost no steering: better prompts, one constant per class, a difference of "
    "activations, answers held to the choices. A set is worth having when it stands to the right of all of them."
)
OPENINGS = {
    "prompt": "A better prompt",
    "offset": "One constant per class",
    "difference": "A difference of activations",
    "constrained": "Holding the answers to the choices",
}
HEADS = ("Rival", "Rate", "Against unsteered", "Set against it", "Corrected p")


def outdone(summary: Mapping[str, Any], moved: str) -> str | None:
    """The verdict's sentence where some rival is not beaten, of these the best is named; None if the set beats them all.

    Beaten: the set is right more often, by more than noise after correction for the number of rivals (Holm).
    `moved` says what the set does: "success rises from 60.0% to 76.2% on 160 samples".
    """
    best = _best([row for row in _rows(summary) if not (row["difference"] > 0 and row["p_corrected"] < NOISE)])
    if best is None:
        return None
    more = best["difference"] < 0 and best["p_corrected"] < NOISE
    said = f"{OPENINGS[best['kind']]} does {'more' if more else 'as much'}"
    return f"{said}: {moved}, but {_named(best)} reaches {percent(best['rate'])} ({_flips(best)})."


def standing(summary: Mapping[str, Any]) -> str:
    """The best contender in a sentence, to stand after any verdict; empty without a tournament."""
    rows = _rows(summary)
    best = _best(rows)
    if best is None:
        return ""
    count = f"{len(rows) + 1} contenders"
    if best["difference"] > 0:
        return f"The set is the best of {count}; next is {_named(best)} with {percent(best['rate'])} ({_flips(best)})."
    if best["difference"] == 0:
        return f"The best of {count} are the set and {_named(best)}, both with {percent(best['rate'])}."
    return f"The best of {count} is {_named(best)} with {percent(best['rate'])} ({_flips(best)})."


def rates(summary: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Rows for the chart: label, kind, rate, low, high, effect; unsteered first, then all contenders, the best first.

    `name` is the set's. Intervals are Wilson's at 95%. Empty without a tournament.
    """
    if not _rows(summary):
        return pd.DataFrame(columns=["label", "kind", "rate", "low", "high", "effect"])
    before = rate_row(summary, "unsteered", "unsteered", summary["unsteered_rate"], summary["unsteered_interval"])
    contenders = [rate_row(summary, name, "steered", summary["steered_rate"], summary["steered_interval"])]
    contenders += [
        rate_row(summary, row["rival"], "control", row["rate"], row["rate_interval"]) for row in _rows(summary)
    ]
    return pd.DataFrame([before, *sorted(contenders, key=lambda row: -row["rate"])])


def table(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rivals under HEADS, the best first."""
    return list(_table_rows(sorted(_rows(summary), key=lambda row: -row["rate"])))


def _table_rows(rows: list[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        flips = f"+{row['positive_flips']} / \u2212{row['negative_flips']}"
        yield row["rival"], percent(row["rate"]), points(row["effect"]), flips, p_value(row["p_corrected"])


def _rows(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(summary.get("tournament") or ())


def _best(rows: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of highest rate, the first of equals."""
    return max(rows, key=lambda row: row["rate"], default=None)


def _named(row: Mapping[str, Any]) -> str:
    _, _, what = str(row["rival"]).partition(": ")
    return f"the prompt \u201c{what}\u201d" if row["kind"] == "prompt" and what else str(row["rival"])


def _flips(row: Mapping[str, Any]) -> str:
    return (
        f"the set against it: +{row['positive_flips']} / \u2212{row['negative_flips']} samples, "
        f"{p_value(row['p_corrected'])} corrected"
    )
