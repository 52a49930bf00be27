"""One feature of a run: its numbers, its texts, its descriptions."""

from __future__ import annotations

from typing import Any

import pandas as pd

from corrsteer_core.runs.feature_lists import UNDESCRIBED, WITH_EFFECT, columns, described, parts
from corrsteer_core.runs.run_facts import null
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.storage.reading import query

BINS = 20
"""Of a feature's activations, in a histogram."""


def one_feature(run: str, layer: int, feature: int) -> dict[str, Any] | None:
    """The row of one feature as in `features`, or None if it never fired (or there is none)."""
    sql = f"WITH {', '.join(parts(run))} SELECT {columns()} FROM {WITH_EFFECT} WHERE layer = ? AND feature = ?"
    rows = query(run, sql, [layer, feature])
    return None if rows.empty else {key: null(value) for key, value in rows.to_dict("records")[0].items()}


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
    if described(run) == UNDESCRIBED:
        return pd.DataFrame(columns=["source", "description", "neuronpedia", "promoted"])
    return query(
        run,
        "SELECT source, description, neuronpedia, promoted FROM descriptions WHERE layer = ? AND feature = ? "
        "ORDER BY source",
        [layer, feature],
    )


def meaning(run: str, layer: int, feature: int) -> str:
    """What a feature is said to mean: Neuronpedia's words before our own guess; "" where nothing is known."""
    said = descriptions(run, layer, feature)
    return "" if said.empty else str(said["description"].iloc[0])


def meanings(run: str, steering: SteeringSet) -> pd.DataFrame:
    """layer, feature, coefficient, meaning, does: a row for each feature that the set uses.

    `does` says in words what is done with it, "" where it is just added.
    """
    rows = [
        (row.layer, row.feature, row.coefficient, meaning(run, row.layer, row.feature), "" if row.plain else row.does)
        for row in steering.active_rows
    ]
    return pd.DataFrame(rows, columns=["layer", "feature", "coefficient", "meaning", "does"])


def pooled_values(run: str, layer: int, feature: int) -> pd.DataFrame:
    """Pooled activation of the feature in every training sample (0 where silent): sample, outcome, value."""
    return query(
        run,
        "SELECT sample, outcome, coalesce(value, 0) AS value FROM samples LEFT JOIN "
        "(SELECT sample, value FROM activations WHERE layer = ? AND feature = ?) USING (sample) "
        "WHERE split = 'train' AND outcome IS NOT NULL ORDER BY sample",
        [layer, feature],
    )


def histogram(run: str, layer: int, feature: int) -> pd.DataFrame:
    """How active the feature was when it fired, in BINS of equal width: start, width, correct, incorrect.

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
        {"layer": layer, "feature": feature, "bins": BINS},
    )
