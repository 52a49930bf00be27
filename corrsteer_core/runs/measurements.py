"""The samples of a run, the sets kept with it, and what was measured with them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.run_facts import CURRENT
from corrsteer_core.storage.reading import query


def samples(run: str, splits: Sequence[str] = (), limit: int | None = None) -> pd.DataFrame:
    """The run's samples: sample, split, prompt, target, output, outcome."""
    return query(
        run,
        "SELECT sample, split, prompt, target, output, outcome FROM samples "
        "WHERE len($splits) = 0 OR list_contains($splits, split) ORDER BY sample LIMIT $limit",
        {"splits": list(splits), "limit": 2**31 if limit is None else limit},
    )


def sets(run: str) -> pd.DataFrame:
    """The steering sets kept with a run: name, strategy, created, content (hash), body (JSON), oldest first."""
    return query(run, "SELECT name, strategy, created, content, body FROM sets ORDER BY created")


def evaluations(run: str) -> pd.DataFrame:
    """What was measured with the run's sets, newest first.

    Columns are name, content, task, split, scale, n, created, summary (a dict), label (the name, with a mark where the
    set has been changed since) and own_scale (whether it was measured at the scale the set is kept with).
    """
    found = query(
        run,
        "SELECT name, e.content, task, split, scale, n, e.created, summary, sets.content AS kept, "
        "scale = coalesce(CAST(body->>'scale' AS DOUBLE), 1) AS own_scale "
        "FROM evaluations e LEFT JOIN sets USING (run, name) ORDER BY e.created DESC",
    )
    newest = found.groupby("name")["content"].transform("first")
    changed = found["content"] != found["kept"].fillna(newest)
    label = found["name"].where(~changed, found["name"] + " (before it was changed, " + found["content"] + ")")
    summaries = [json.loads(summary) for summary in found["summary"]]
    return found.drop(columns="kept").assign(label=label, summary=summaries)


def evaluated_samples(
    run: str, name: str, task: str, split: str, scale: float, content: str | None = None, n: int | None = None
) -> pd.DataFrame:
    """Every sample of one evaluation, with both texts and outcomes. Raises CorrSteerError if there is no such one.

    Without `content`, of the set as it is kept now; without `n`, on the most samples.
    """
    rows = query(
        run,
        "SELECT samples FROM evaluations e LEFT JOIN sets USING (run, name) "
        "WHERE name = $name AND task = $task AND split = $split AND scale = $scale "
        "AND e.content = coalesce($content, e.content) AND n = coalesce($n, n) "
        f"ORDER BY {CURRENT} DESC, n DESC, e.created DESC LIMIT 1",
        {"name": name, "task": task, "split": split, "scale": scale, "content": content, "n": n},
    )
    if rows.empty:
        raise CorrSteerError(f"The set {name!r} of {run} has not been measured on {task} ({split}) at scale {scale:g}.")
    return pd.DataFrame(json.loads(rows["samples"][0]))


def with_flips(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples of an evaluation with `flip`: won, lost, changed (text only) or same."""
    before, after = samples["outcome_unsteered"] > 0.5, samples["outcome_steered"] > 0.5
    flip = pd.Series("same", index=samples.index)
    flip[samples["unsteered"] != samples["steered"]] = "changed"
    flip[~before & after] = "won"
    flip[before & ~after] = "lost"
    return samples.assign(flip=flip)
