"""What is known of the cached runs as wholes: the list of them, and one run's facts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.runs.strategies import PREFERRED
from corrsteer_core.storage.reading import Reader, query
from corrsteer_core.storage.run_folder import database_path, run_names
from corrsteer_core.tasks.columns import Columns, written

DEMO_TASK = "tone"
DEMO_SET = "A of layers 8 and 12"
DEMO_LIMIT = "CORRSTEER_DEMO_LIMIT"
"""Variable with a number of samples to measure the first start's set on, for those who only want to see that it runs."""
RUN_COLUMNS = (
    "run", "task", "model", "created", "samples", "collected", "success_rate", "fitted", "measured", "problem",
)  # fmt: skip


def run_row(run: str) -> dict[str, Any]:
    """What `runs` says of one run."""
    sql = (
        "SELECT run, config->>'task' AS task, config->>'model' AS model, created, (SELECT count(*) FROM "
        "samples) AS samples, "
        "(SELECT count(outcome) FROM samples) AS collected, (SELECT avg(outcome) FROM samples) AS success_rate, "
        "(SELECT count(*) FROM fits) > 0 AS fitted, (SELECT count(*) FROM evaluations) AS measured FROM runs"
    )
    try:
        found = query(run, sql)
    except CorrSteerError as error:
        return {"run": run, "problem": str(error)}
    if found.empty:
        return {"run": run, "problem": f"The run {run} is empty; delete it and collect it again."}
    return {**found.iloc[0].to_dict(), "run": run, "problem": None}  # a copied folder holds the name of another


def runs(rows: Sequence[Mapping[str, Any]] | None = None) -> pd.DataFrame:
    """One row per cached run, newest first; `problem` says in one sentence why a run cannot be read, else null.

    `rows` are what `run_row` says of each, where that is known already.
    """
    rows = [run_row(run) for run in run_names()] if rows is None else rows
    frame = pd.DataFrame(rows, columns=list(RUN_COLUMNS))
    return frame.astype({"problem": object}).where(frame.notna(), None) if rows else frame


def demo_run() -> str | None:
    """The cached run in which the demo's whole job is done, or None."""
    sql = (
        "SELECT 1 FROM runs, evaluations WHERE config->>'task' = ? AND config->>'model' = ? AND name = ? "
        "AND split = 'shifted'"  # measured last
    )
    for run in run_names():
        try:
            if len(query(run, sql, [DEMO_TASK, EMBEDDED, DEMO_SET])):
                return run
        except CorrSteerError:
            continue  # a damaged run is reported where it is opened; the demo makes its own
    return None


def measured_splits(run: str, name: str) -> set[str]:
    """Splits of the run's own task on which a set was measured."""
    sql = "SELECT DISTINCT split FROM evaluations, runs WHERE name = ? AND task = config->>'task'"
    return set(query(run, sql, [name])["split"])


@dataclass(frozen=True)
class RunFacts:
    """What one run is, and how far it is."""

    run: str
    config: dict[str, Any]
    """Everything that defines the run, as stored: task, model, saes, style, max_new_tokens, pooling, ..."""
    created: pd.Timestamp
    splits: pd.DataFrame
    """split, samples, collected, success_rate."""
    fit: dict[str, Any] | None
    """The row of `fits` (samples, success_rate, constant, floor, permutations, seed); None before the fit."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that were read."""
        return tuple(sorted({sae["layer"] for sae in self.config["saes"]}))

    @property
    def samples(self) -> int:
        """Samples of all splits."""
        return int(self.splits["samples"].sum())

    @property
    def collected(self) -> int:
        """Samples the model has answered."""
        return int(self.splits["collected"].sum())

    @property
    def success_rate(self) -> float | None:
        """Mean outcome of all samples answered; None before the first."""
        rates = self.splits.dropna(subset="success_rate")
        answered = rates["collected"].sum()
        return float((rates["success_rate"] * rates["collected"]).sum() / answered) if answered else None

    @property
    def features(self) -> int:
        """Features of all SAEs together."""
        return sum(sae["d_sae"] for sae in self.config["saes"])


def facts(run: str) -> RunFacts:
    """What a run is. Raises CorrSteerError for one that cannot be read."""
    with Reader(run) as store:  # three questions to one version of the file
        rows = store.query("SELECT config, created FROM runs")
        if rows.empty:
            raise CorrSteerError(
                f"The run {run} is empty; delete the folder {database_path(run).parent} and collect it again."
            )
        splits = store.query(
            "SELECT split, count(*) AS samples, count(outcome) AS collected, avg(outcome) AS success_rate FROM "
            "samples GROUP BY split ORDER BY array_position(['train', 'validation', 'test'], split)"
        )
        fits = store.query("SELECT samples, success_rate, constant, floor, permutations, seed FROM fits")
    fit = None if fits.empty else {key: value.item() for key, value in fits.iloc[0].items()}
    return RunFacts(run, json.loads(rows["config"][0]), rows["created"][0], splits, fit)


CHANCE = ("level", "median", "best", "p", "within_level", "within_median", "within_best", "within_p")


def chance(run: str) -> Mapping[str, Any] | None:
    """What r the best of all features reaches under permuted outcomes: level, median, best, p; None if none has an r.

    Of r within the class of the right answer the same as within_level, ..., None where the task has no classes. What it
    reaches within each layer is in `best_by_layer`.
    """
    found = query(run, f"SELECT {', '.join(CHANCE)} FROM chance WHERE layer IS NULL")
    return {name: null(value) for name, value in found.iloc[0].items()} if len(found) else None


def chance_by_layer(run: str) -> pd.DataFrame:
    """What r the best feature reaches under permuted outcomes: layer (null: of all), level (95%), median, best, p.

    Then the same four of r within the class of the right answer: within_level, ..., null where the task has no classes.
    """
    return query(run, f"SELECT layer, {', '.join(CHANCE)} FROM chance ORDER BY layer NULLS FIRST")


def fit_arguments(run: str) -> list[str]:
    """Arguments of the command line that collect what is missing of a run and fit it."""
    config = facts(run).config
    style = config["style"]
    chosen = ["fit", f"--model={config['model']}"]
    chosen += [f"--scorer={config['scorer']}"] if config["scorer"] else [f"--task={config['task']}"]
    chosen += [f"--data={config['data']}"] if config["data"] else []
    chosen += [f"--columns={written(_columns(config))}"] if config.get("columns") else []
    chosen += [f"--judge={config['judge']}"] if config.get("judge") else []
    chosen += [f"--sae={sae['source']}" for sae in config["saes"]]
    chosen += [f"--limit={config['limit']}"] if config["limit"] else []
    chosen += [
        f"--max-new-tokens={config['max_new_tokens']}",
        f"--pooling={config['pooling']}",
        f"--seed={config['seed']}",
    ]
    chosen += ["--chat" if style["chat"] else "--no-chat", f"--system={style['system']}"]
    chosen += [f"--shots={len(style['shots'])}"] if style["shots"] else []
    return chosen


def _columns(config: Mapping[str, Any]) -> Columns:
    return tuple((str(field), str(column)) for field, column in config["columns"])


CURRENT = "e.content = coalesce(sets.content, e.content)"
"""SQL: whether an evaluation e is of the set as it is kept now, not of what it was before it was changed."""


def headline(run: str) -> Mapping[str, Any] | None:
    """The evaluation that says how a run ended: the best kind of set that was measured, on the most unseen test samples of
    its own task; None where there is none. `set` is its name.

    Of sets as they are kept now, at the scale they are kept with: those chosen by steering first, in the order of
    strategies.PREFERRED, then those made by hand, then the others; a set without rows only where no other was measured.
    """
    found = query(
        run,
        "SELECT name, summary, coalesce(json_array_length(body->'rows'), 1) AS features "  # a set since deleted had some
        "FROM evaluations e JOIN runs USING (run) LEFT JOIN sets USING (run, name) "
        f"WHERE split = 'test' AND task = config->>'task' AND {CURRENT} "
        "AND scale = coalesce(CAST(body->>'scale' AS DOUBLE), 1) "
        "ORDER BY features = 0, coalesce(list_position($names, name), $by_hand), n DESC, e.created DESC LIMIT 1",
        {"names": list(PREFERRED), "by_hand": PREFERRED.index("S") + 0.5},
    )
    return None if found.empty else {**json.loads(found["summary"][0]), "set": found["name"][0]}


def null(value: Any) -> Any:
    """A NumPy number as Python's own, undefined as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if pd.isna(value) else value
