"""Evaluations kept with the set's run."""

from __future__ import annotations

import json

import pandas as pd

from corrsteer_core.evaluation.evaluation import Evaluation
from corrsteer_core.reporting.rate_rows import BEYOND, MIRROR
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.storage.run_folder import is_cached
from corrsteer_core.storage.writing import Writer

LONG_WAIT = 600.0
"""Seconds that a finished measurement waits for another writer: it took as long to make."""

OF_CONTROLS = ("controls", "constrained", "permutation_p", "mirror")
"""What a summary says of the set's controls; `matched` and `tournament` are measured apart from them."""
BY_RIVAL = ("against", "frequencies")
"""What a summary says of each rival by its name, the set's own under "" among them."""


def keep(steering: SteeringSet, result: Evaluation) -> None:
    """Keep an evaluation with the set's run, in place of the same one; controls and rivals measured before stay."""
    if not (steering.run and steering.name and is_cached(steering.run)):
        return
    summary = result.summary()
    with Writer(steering.run, wait=LONG_WAIT) as store, store.transaction():
        known = store.query(
            "SELECT summary FROM evaluations WHERE name = ? AND content = ? AND task = ? AND split = ? AND scale = ? "
            "AND n = ?",
            [steering.name, result.content, result.task, result.split, result.scale, summary["n"]],
        )
        before = json.loads(known["summary"][0]) if len(known) else {}
        if before and _same_flips(before, summary):
            summary |= _measured_before(before, result)
            _join_by_rival(before, summary)
            if not result.tournament:
                earlier = [one for one in before.get("left_out") or [] if one["rival"] not in _measured(summary)]
                summary["left_out"] = [*earlier, *(one for one in summary["left_out"] if one not in earlier)]
        row = {
            "name": steering.name,
            "content": result.content,
            "task": result.task,
            "split": result.split,
            "scale": result.scale,
            "n": summary["n"],
            "created": pd.Timestamp.now("UTC").tz_localize(None),
            "summary": json.dumps(summary),
            "samples": result.samples.to_json(orient="records"),
        }
        store.add("evaluations", pd.DataFrame([row]))


def _measured(summary: dict) -> set[str]:
    """Controls that are there, by the names under which they are said to be left out."""
    return {
        *summary["controls"],
        *([BEYOND] if summary.get("beyond_prior") else []),
        *([MIRROR] if summary.get("mirror") else []),
    }


def _measured_before(before: dict, result: Evaluation) -> dict:
    """What the earlier summary says of the kinds of rivals that were not measured now."""
    stay: tuple[str, ...] = () if result.controls else OF_CONTROLS
    stay += () if result.matched else ("matched",)
    stay += () if result.tournament else ("tournament",)
    return {name: before[name] for name in stay if name in before}


def _join_by_rival(before: dict, summary: dict) -> None:
    """Add to a summary what the earlier one says of those rivals that stay; of one measured now, what was found now."""
    rivals = {"", *(name for kind in ("controls", "constrained", "matched") for name in summary.get(kind) or {})}
    for name in BY_RIVAL:
        earlier = {one: said for one, said in (before.get(name) or {}).items() if one in rivals}
        summary[name] = earlier | (summary.get(name) or {})


def _same_flips(one: dict, other: dict) -> bool:
    return all(one.get(name) == other[name] for name in ("n", "unsteered_rate", "positive_flips", "negative_flips"))
