"""What is in the cache, for looking at: read-only questions to a run's file, answered as DataFrames.

Loads neither torch nor a model, so that a page which only shows results is there at once. Filters,
sorting and paging are done by the database. What is written is written elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.runs.store import Reader, database_path, query, run_names

DEMO_TASK = "sentiment"
TOP_TEXTS = 5
"""A text search looks at so many top-activating texts of every feature."""

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
        return {"run": run, "problem": f"The run {run} is empty; delete it and collect it anew."}
    return {**found.iloc[0].to_dict(), "problem": None}


def runs(row: Callable[[str], dict[str, Any]] = run_row) -> pd.DataFrame:
    """One row per cached run, newest first; `problem` says in one sentence why a run cannot be read, else null.

    `row` answers for `run_row`, from memory say.
    """
    rows = [row(run) for run in run_names()]
    frame = pd.DataFrame(rows, columns=list(RUN_COLUMNS))
    return frame.astype({"problem": object}).where(frame.notna(), None) if rows else frame


def demo_run() -> str | None:
    """The cached run in which the demo's whole job is done, or None."""
    sql = "SELECT 1 FROM runs, evaluations WHERE config->>'task' = ? AND config->>'model' = ? AND name = 'V'"
    for run in run_names():
        try:
            if len(query(run, sql, [DEMO_TASK, EMBEDDED])):
                return run
        except CorrSteerError:
            continue  # a damaged run is reported where it is opened; the demo makes its own
    return None


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
                f"The run {run} is empty; delete the folder {database_path(run).parent} and collect it anew."
            )
        splits = store.query(
            "SELECT split, count(*) AS samples, count(outcome) AS collected, avg(outcome) AS success_rate FROM "
            "samples GROUP BY split ORDER BY array_position(['train', 'validation', 'test'], split)"
        )
        fits = store.query("SELECT samples, success_rate, constant, floor, permutations, seed FROM fits")
    fit = None if fits.empty else {key: value.item() for key, value in fits.iloc[0].items()}
    return RunFacts(run, json.loads(rows["config"][0]), rows["created"][0], splits, fit)


# --- features ------------------------------------------------------------------------------------

SortKey = Literal[
    "r", "layer", "feature", "coefficient", "support",
    "frequency", "frequency_correct", "frequency_incorrect", "p", "q", "effect",
]  # fmt: skip
SORT_KEYS: tuple[SortKey, ...] = SortKey.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class FeatureFilter:
    """Which features, in which order. Checked when made: nothing of it reaches SQL as text."""

    layers: tuple[int, ...] = ()
    """Only these; empty for all."""
    r_low: float = -1.0
    r_high: float = 1.0
    support: int = 0
    """Least number of training samples in which the feature fired."""
    q_high: float | None = None
    """Only features with q at most this."""
    coefficient_low: float | None = None
    coefficient_high: float | None = None
    frequency_low: float = 0.0
    """Bounds on the share of training samples in which it fired."""
    frequency_high: float = 1.0
    correct_low: float = 0.0
    """Bounds on the share of the correct answers in which it fired."""
    correct_high: float = 1.0
    incorrect_low: float = 0.0
    incorrect_high: float = 1.0
    effect_low: float | None = None
    """Only features that were tried and whose best effect is at least this."""
    described: bool = False
    """Only features that have a description."""
    text: str = ""
    """Words that one of the feature's top-activating texts, its description or its promoted tokens must hold, or the
    feature's number."""
    tried: bool = False
    """Only features whose effect has been measured."""
    sort: SortKey = "r"
    descending: bool = True

    def __post_init__(self) -> None:
        if self.sort not in SORT_KEYS:
            raise CorrSteerError(f"Features cannot be sorted by {self.sort!r}; choose one of {', '.join(SORT_KEYS)}.")


_BEST_EFFECT = (
    "best AS (SELECT layer, feature, steered_rate - unsteered_rate AS effect, scale AS effect_scale, p AS effect_p "
    "FROM effects QUALIFY row_number() OVER (PARTITION BY layer, feature "
    "ORDER BY steered_rate - unsteered_rate DESC, scale) = 1)"
)
_WITH_EFFECT = "features LEFT JOIN best USING (layer, feature) LEFT JOIN described USING (layer, feature)"
_COLUMNS = (
    "layer, feature, r, coefficient, support, frequency, frequency_correct, frequency_incorrect, p, q, "
    "effect, effect_scale, effect_p, description, description_source"
)
_DESCRIBED = (
    "described AS (SELECT layer, feature, first(description ORDER BY source) AS description, first(source ORDER BY "
    "source) AS description_source, string_agg(description, chr(10)) || coalesce(chr(10) || string_agg(promoted, "
    "chr(10)), '') AS words FROM descriptions GROUP BY layer, feature)"
)  # "neuronpedia" sorts before "own"
_UNDESCRIBED = (
    "described AS (SELECT NULL::SMALLINT AS layer, NULL::INTEGER AS feature, NULL::VARCHAR AS description, "
    "NULL::VARCHAR AS description_source, NULL::VARCHAR AS words WHERE false)"
)


def _described(run: str) -> str:
    """The part of WITH that has descriptions; a run of before there were any has no table of them."""
    found = query(run, "SELECT count(*) AS n FROM duckdb_tables() WHERE table_name = 'descriptions'")
    return _DESCRIBED if found["n"][0] else _UNDESCRIBED


def features(run: str, wanted: FeatureFilter = FeatureFilter(), *, limit: int = 50, offset: int = 0) -> pd.DataFrame:
    """One page of the fitted features, each with the best effect measured for it (null where none was)."""
    with_parts, where, parameters = _conditions(run, wanted)
    direction = "DESC" if wanted.descending else "ASC"
    sql = (
        f"WITH {with_parts} SELECT {_COLUMNS} FROM {_WITH_EFFECT} WHERE {where} "
        f'ORDER BY "{wanted.sort}" {direction} NULLS LAST, layer, feature LIMIT $limit OFFSET $offset'
    )
    return query(run, sql, {**parameters, "limit": limit, "offset": offset})


def count_features(run: str, wanted: FeatureFilter = FeatureFilter()) -> int:
    """How many features a filter lets through."""
    with_parts, where, parameters = _conditions(run, wanted)
    return int(
        query(run, f"WITH {with_parts} SELECT count(*) AS n FROM {_WITH_EFFECT} WHERE {where}", parameters)["n"][0]
    )


def one_feature(run: str, layer: int, feature: int) -> dict[str, Any] | None:
    """The row of one feature as in `features`, or None if it never fired (or there is none)."""
    sql = (
        f"WITH {_BEST_EFFECT}, {_described(run)} SELECT {_COLUMNS} FROM {_WITH_EFFECT} WHERE layer = ? AND feature = ?"
    )
    rows = query(run, sql, [layer, feature])
    return None if rows.empty else {key: _null(value) for key, value in rows.to_dict("records")[0].items()}


def _conditions(run: str, wanted: FeatureFilter) -> tuple[str, str, dict[str, Any]]:
    """The parts of WITH, the condition and its parameters."""
    parts = [_BEST_EFFECT, _described(run)]
    parameters: dict[str, Any] = {"support": wanted.support}
    terms: list[str] = ["support >= $support"]
    if wanted.r_low > -1 or wanted.r_high < 1:
        terms.append("r BETWEEN $r_low AND $r_high")
        parameters |= {"r_low": wanted.r_low, "r_high": wanted.r_high}
    if wanted.layers:
        terms.append("list_contains($layers, layer)")
        parameters["layers"] = list(wanted.layers)
    if wanted.q_high is not None:
        terms.append("q <= $q_high")
        parameters["q_high"] = wanted.q_high
    if wanted.tried:
        terms.append("effect IS NOT NULL")
    if wanted.described:
        terms.append("description IS NOT NULL")
    for column, low, high in (
        ("coefficient", wanted.coefficient_low, wanted.coefficient_high),
        ("frequency", wanted.frequency_low or None, _below_one(wanted.frequency_high)),
        ("frequency_correct", wanted.correct_low or None, _below_one(wanted.correct_high)),
        ("frequency_incorrect", wanted.incorrect_low or None, _below_one(wanted.incorrect_high)),
        ("effect", wanted.effect_low, None),
    ):  # the names of columns are ours; what a user typed are parameters
        if low is not None:
            terms.append(f"{column} >= ${column}_low")
            parameters[f"{column}_low"] = low
        if high is not None:
            terms.append(f"{column} <= ${column}_high")
            parameters[f"{column}_high"] = high
    if text := wanted.text.strip():
        parts.append(_TEXT_HITS)
        terms.append(
            "((layer, feature) IN (SELECT (layer, feature) FROM hits) OR contains(lower(words), lower($text)) "
            "OR feature::VARCHAR = $text)"
        )
        parameters |= {"text": text, "top": TOP_TEXTS}
    return ", ".join(parts), " AND ".join(terms), parameters


def _below_one(bound: float) -> float | None:
    """A share's upper bound, None where it excludes nothing."""
    return bound if bound < 1 else None


_TEXT_HITS = (
    "hits AS (SELECT DISTINCT layer, feature FROM (SELECT layer, feature, sample FROM activations "
    "QUALIFY row_number() OVER (PARTITION BY layer, feature ORDER BY value DESC, sample) <= $top) "
    "JOIN samples USING (sample) WHERE contains(lower(prompt), lower($text)) OR contains(lower(output), lower($text)))"
)


def chance(run: str) -> Mapping[str, Any] | None:
    """What r the best of all features reaches under permuted outcomes: level, median, best, p; None if none has an r.

    What it reaches within each layer is in `best_by_layer`.
    """
    found = query(run, "SELECT level, median, best, p FROM chance WHERE layer IS NULL")
    return found.iloc[0].to_dict() if len(found) else None


def best_by_layer(run: str) -> pd.DataFrame:
    """The feature of highest r of each layer (those at the floor), with what chance reaches there."""
    return query(
        run,
        "SELECT layer, feature, r, support, level, median, chance.p AS p FROM features LEFT JOIN chance USING (layer) "
        "WHERE r IS NOT NULL AND support >= (SELECT floor FROM fits) "
        "QUALIFY row_number() OVER (PARTITION BY layer ORDER BY r DESC, feature) = 1 ORDER BY layer",
    )


RANKS = 30


def ranks(run: str, top: int = RANKS) -> pd.DataFrame:
    """The `top` features of highest r of each layer (those at the floor): layer, rank (from 1), feature, r, level."""
    return query(
        run,
        "SELECT layer, row_number() OVER (PARTITION BY layer ORDER BY r DESC, feature) AS rank, feature, r, level "
        "FROM features LEFT JOIN chance USING (layer) WHERE r IS NOT NULL AND support >= (SELECT floor FROM fits) "
        "QUALIFY rank <= ? ORDER BY layer, rank",
        [top],
    )


def cloud(run: str, limit: int = 1200) -> pd.DataFrame:
    """Ranked features for a picture: of more than `limit`, those of the largest |r| and an even sample of the rest."""
    return query(
        run,
        "SELECT layer, feature, r, coefficient, support, frequency FROM features "
        "WHERE r IS NOT NULL AND support >= (SELECT floor FROM fits) "
        "QUALIFY row_number() OVER (ORDER BY abs(r) DESC, layer, feature) <= $half "
        "OR row_number() OVER (ORDER BY hash(layer, feature)) <= $half ORDER BY abs(r) DESC, layer, feature",
        {"half": limit // 2},
    )


def effects(run: str, layer: int | None = None, feature: int | None = None) -> pd.DataFrame:
    """Every measured effect (of one feature, if named), with `effect` = steered minus unsteered rate; best first."""
    terms, parameters = [], []
    for name, value in (("layer", layer), ("feature", feature)):
        if value is not None:
            terms.append(f"{name} = ?")
            parameters.append(value)
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    return query(
        run,
        f"SELECT layer, feature, r, scale, coefficient, n, unsteered_rate, steered_rate, steered_rate - "
        f"unsteered_rate AS effect, "
        f"positive_flips, negative_flips, p FROM effects {where} ORDER BY effect DESC, scale, layer, feature",
        parameters,
    )


def best_effects(run: str) -> pd.DataFrame:
    """Each tried feature at the scale where it did best (columns as in `effects`, best first), and where it did worst.

    The worst is in `worst_effect`, `worst_scale`, `worst_p` and `worst_flips` (won minus lost); `tries` counts scales.
    """
    found = effects(run)
    best = found.drop_duplicates(["layer", "feature"])
    worst = found.iloc[::-1].drop_duplicates(["layer", "feature"])
    worst = worst.assign(flips=worst["positive_flips"] - worst["negative_flips"])
    worst = worst[["layer", "feature", "effect", "scale", "p", "flips"]]
    worst = worst.rename(columns={name: f"worst_{name}" for name in ("effect", "scale", "p", "flips")})
    tries = found.groupby(["layer", "feature"]).size().rename("tries").reset_index()
    return best.merge(worst, on=["layer", "feature"]).merge(tries, on=["layer", "feature"])


# --- one feature ---------------------------------------------------------------------------------


def top_texts(run: str, layer: int, feature: int, limit: int = 10) -> pd.DataFrame:
    """The samples in which the feature was most active: sample, split, prompt, target, output, outcome, value."""
    return query(
        run,
        "SELECT sample, split, prompt, target, output, outcome, value FROM activations JOIN samples USING (sample) "
        "WHERE layer = ? AND feature = ? ORDER BY value DESC, sample LIMIT ?",
        [layer, feature, limit],
    )


def texts_by_quantile(run: str, layer: int, feature: int, each: int = 4) -> pd.DataFrame:
    """Texts from all over a feature's activations: `part`, and the columns of `top_texts` and tokens.

    Of the samples in which it fired, ordered by activation: "strongest", the first `each`; "upper
    quarter", "middle" and "lower quarter", the `each` around the 75%, 50% and 25% quantiles. No sample
    is in two parts; parts that would have none are left out.
    """
    return query(
        run,
        "WITH fired AS (SELECT sample, value, row_number() OVER (ORDER BY value DESC, sample) AS place, "
        "count(*) OVER () AS n FROM activations JOIN samples USING (sample) "
        "WHERE layer = $layer AND feature = $feature AND outcome IS NOT NULL), "
        "parts AS (SELECT * FROM (VALUES ('strongest', 0, 0.0), ('upper quarter', 1, 0.25), ('middle', 2, 0.5), "
        "('lower quarter', 3, 0.75)) AS t(part, nth, below)), "
        "chosen AS (SELECT part, nth, sample, value, place FROM fired, parts WHERE CASE nth WHEN 0 THEN place <= $each "
        "ELSE place - floor(n * below - $each / 2.0) BETWEEN 1 AND $each END "
        "QUALIFY row_number() OVER (PARTITION BY sample ORDER BY nth) = 1) "
        "SELECT part, sample, split, prompt, target, output, outcome, tokens, value FROM chosen JOIN samples "
        "USING (sample) ORDER BY nth, place",
        {"layer": layer, "feature": feature, "each": each},
    )


def descriptions(run: str, layer: int, feature: int) -> pd.DataFrame:
    """What a feature is said to mean: source, description, neuronpedia, promoted; Neuronpedia's first."""
    if _described(run) == _UNDESCRIBED:
        return pd.DataFrame(columns=["source", "description", "neuronpedia", "promoted"])
    return query(
        run,
        "SELECT source, description, neuronpedia, promoted FROM descriptions WHERE layer = ? AND feature = ? "
        "ORDER BY source",
        [layer, feature],
    )


def described_features(run: str) -> int:
    """How many features have a description."""
    sql = f"WITH {_described(run)} SELECT count(*) AS n FROM described"
    return int(query(run, sql)["n"][0])


def pooled_values(run: str, layer: int, feature: int) -> pd.DataFrame:
    """Pooled activation of the feature in every training sample (0 where silent): sample, outcome, value."""
    return query(
        run,
        "SELECT sample, outcome, coalesce(value, 0) AS value FROM samples LEFT JOIN "
        "(SELECT sample, value FROM activations WHERE layer = ? AND feature = ?) USING (sample) "
        "WHERE split = 'train' AND outcome IS NOT NULL ORDER BY sample",
        [layer, feature],
    )


def histogram(run: str, layer: int, feature: int, bins: int = 20) -> pd.DataFrame:
    """How active the feature was when it fired, in bins of equal width: start, width, correct, incorrect.

    The last two are shares of all training samples with outcome above 0.5 and of the others; they
    add up to the feature's frequency among them. No rows if it never fired.
    """
    return query(
        run,
        "WITH fired AS (SELECT value, outcome > 0.5 AS correct FROM activations JOIN samples USING (sample) "
        "WHERE layer = $layer AND feature = $feature AND split = 'train' AND outcome IS NOT NULL), "
        "top AS (SELECT max(value)::DOUBLE / $bins AS width FROM fired), "
        "groups AS (SELECT count(*) FILTER (outcome > 0.5) AS correct, count(*) FILTER (outcome <= 0.5) AS incorrect "
        "FROM samples WHERE split = 'train'), "
        "counted AS (SELECT least(floor(value / width), $bins - 1)::INTEGER AS bin, count(*) FILTER (correct) "
        "AS correct, "
        "count(*) FILTER (NOT correct) AS incorrect FROM fired, top GROUP BY bin) "
        "SELECT bin * width AS start, width, coalesce(counted.correct / nullif(groups.correct, 0), 0) AS correct, "
        "coalesce(counted.incorrect / nullif(groups.incorrect, 0), 0) AS incorrect FROM counted, top, groups "
        "ORDER BY start",
        {"layer": layer, "feature": feature, "bins": bins},
    )


def fit_arguments(run: str) -> list[str]:
    """Arguments of the command line that collect what is missing of a run and fit it."""
    config = facts(run).config
    style = config["style"]
    chosen = ["fit", f"--model={config['model']}"]
    chosen += [f"--scorer={config['scorer']}"] if config["scorer"] else [f"--task={config['task']}"]
    chosen += [f"--data={config['data']}"] if config["data"] else []
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


# --- samples, sets and what was measured ---------------------------------------------------------

CURRENT = "e.content = coalesce(sets.content, e.content)"
"""SQL: whether an evaluation e is of the set as it is kept now, not of what it was before it was changed."""


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


def headline(run: str) -> Mapping[str, Any] | None:
    """The evaluation that tells what came of a run: set V on the most unseen test samples of its own task, else None.

    Of V as it is kept now, at the scale it is kept with.
    """
    found = query(
        run,
        "SELECT summary FROM evaluations e JOIN runs USING (run) LEFT JOIN sets USING (run, name) "
        f"WHERE name = 'V' AND split = 'test' AND task = config->>'task' AND {CURRENT} "
        "AND scale = coalesce(CAST(body->>'scale' AS DOUBLE), 1) ORDER BY n DESC, e.created DESC LIMIT 1",
    )
    return None if found.empty else json.loads(found["summary"][0])


def _null(value: Any) -> Any:
    """A NumPy number as Python's own, undefined as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if pd.isna(value) else value
