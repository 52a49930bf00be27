"""Many features of a run: filtered, sorted, the best of each layer, their effects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.correlation.feature_columns import COLUMNS
from corrsteer_core.statistics.rates import wilson
from corrsteer_core.storage.reading import query

TOP_TEXTS = 5
"""A text search looks at so many top-activating texts of every feature."""


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
    sort: str = "r"
    """A name of `sort_keys()`."""
    descending: bool = True

    def __post_init__(self) -> None:
        if self.sort not in (known := sort_keys()):
            raise CorrSteerError(f"Features cannot be sorted by {self.sort!r}; choose one of {', '.join(known)}.")


def sort_keys() -> list[str]:
    """What features can be sorted by."""
    return ["layer", "feature", *COLUMNS, "effect", "predicted_effect", "shift", "tilt"]


_BEST_EFFECT = (
    "best AS (SELECT layer, feature, steered_rate - unsteered_rate AS effect, scale AS effect_scale, p AS effect_p "
    "FROM effects QUALIFY row_number() OVER (PARTITION BY layer, feature "
    "ORDER BY steered_rate - unsteered_rate DESC, scale) = 1)"
)
WITH_EFFECT = (
    "features LEFT JOIN best USING (layer, feature) LEFT JOIN described USING (layer, feature) "
    "LEFT JOIN predicted USING (layer, feature)"
)
_BESIDE = "effect, effect_scale, effect_p, description, description_source, predicted_effect, shift, tilt, toward"
_DESCRIBED = (
    "described AS (SELECT layer, feature, first(description ORDER BY source) AS description, first(source ORDER BY "
    "source) AS description_source, string_agg(description, chr(10)) || coalesce(chr(10) || string_agg(promoted, "
    "chr(10)), '') AS words FROM descriptions GROUP BY layer, feature)"
)  # "neuronpedia" sorts before "of NAME" (a language model), and that before "own"
UNDESCRIBED = (
    "described AS (SELECT NULL::SMALLINT AS layer, NULL::INTEGER AS feature, NULL::VARCHAR AS description, "
    "NULL::VARCHAR AS description_source, NULL::VARCHAR AS words WHERE false)"
)

# What was predicted with another coefficient than the feature has now is out of date, and left out.
_PREDICTED = (
    "predicted AS (SELECT layer, feature, predicted_effect, shift, tilt, toward FROM predictions JOIN (SELECT layer, "
    "feature, coefficient AS fitted FROM features) USING (layer, feature) WHERE coefficient = fitted "
    "OR (NOT own AND coalesce(fitted, 0) = 0))"
)
_NO_PREDICTIONS = (
    "predicted AS (SELECT NULL::SMALLINT AS layer, NULL::INTEGER AS feature, NULL::DOUBLE AS predicted_effect, "
    "NULL::DOUBLE AS shift, NULL::DOUBLE AS tilt, NULL::VARCHAR AS toward WHERE false)"
)


def described(run: str) -> str:
    """The part of WITH that has descriptions; a run of before there were any has no table of them."""
    return _DESCRIBED if _has_table(run, "descriptions") else UNDESCRIBED


def predicted(run: str) -> str:
    """The part of WITH that has predictions; a run of before there were any has no table of them."""
    return _PREDICTED if _has_table(run, "predictions") else _NO_PREDICTIONS


def columns() -> str:
    """What is said of each feature, joined as in WITH_EFFECT."""
    return f"layer, feature, {', '.join(f'features.{name}' for name in COLUMNS)}, {_BESIDE}"


def parts(run: str) -> list[str]:
    """The parts of WITH that WITH_EFFECT joins."""
    return [_BEST_EFFECT, described(run), predicted(run)]


def _has_table(run: str, table: str) -> bool:
    found = query(run, "SELECT count(*) AS n FROM duckdb_tables() WHERE table_name = ?", [table])
    return bool(found["n"][0])


def features(run: str, wanted: FeatureFilter = FeatureFilter(), *, limit: int = 50, offset: int = 0) -> pd.DataFrame:
    """One page of the fitted features, each with the best effect measured for it (null where none was)."""
    with_parts, where, parameters = _conditions(run, wanted)
    direction = "DESC" if wanted.descending else "ASC"
    sql = (
        f"WITH {with_parts} SELECT {columns()} FROM {WITH_EFFECT} WHERE {where} "
        f'ORDER BY "{wanted.sort}" {direction} NULLS LAST, layer, feature LIMIT $limit OFFSET $offset'
    )
    return query(run, sql, {**parameters, "limit": limit, "offset": offset})


def count_features(run: str, wanted: FeatureFilter = FeatureFilter()) -> int:
    """How many features a filter lets through."""
    with_parts, where, parameters = _conditions(run, wanted)
    return int(
        query(run, f"WITH {with_parts} SELECT count(*) AS n FROM {WITH_EFFECT} WHERE {where}", parameters)["n"][0]
    )


def known_of(run: str, asked: pd.DataFrame) -> pd.DataFrame:
    """What a run knows of some features (rows with layer and feature): those with r, coefficient, support, effect, description.

    Null where it knows nothing, as of a feature that fired in none of its training samples.
    """
    return query(
        run,
        f"WITH asked AS (SELECT unnest($layers)::SMALLINT AS layer, unnest($features)::INTEGER AS feature), "
        f"{', '.join(parts(run))} SELECT layer, feature, r, coefficient, support, effect, description, description_source "
        "FROM asked LEFT JOIN features USING (layer, feature) LEFT JOIN best USING (layer, feature) "
        "LEFT JOIN described USING (layer, feature)",
        {"layers": asked["layer"].tolist(), "features": asked["feature"].tolist()},
    )


def _conditions(run: str, wanted: FeatureFilter) -> tuple[str, str, dict[str, Any]]:
    """The parts of WITH, the condition and its parameters."""
    with_parts = parts(run)
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
        with_parts.append(_TEXT_HITS)
        terms.append(
            "((layer, feature) IN (SELECT (layer, feature) FROM hits) OR contains(lower(words), lower($text)) "
            "OR feature::VARCHAR = $text)"
        )
        parameters |= {"text": text, "top": TOP_TEXTS}
    return ", ".join(with_parts), " AND ".join(terms), parameters


def _below_one(bound: float) -> float | None:
    """A share's upper bound, None where it excludes nothing."""
    return bound if bound < 1 else None


_TEXT_HITS = (
    "hits AS (SELECT DISTINCT layer, feature FROM (SELECT layer, feature, sample FROM activations "
    "QUALIFY row_number() OVER (PARTITION BY layer, feature ORDER BY value DESC, sample) <= $top) "
    "JOIN samples USING (sample) WHERE contains(lower(prompt), lower($text)) OR contains(lower(output), lower($text)))"
)


def best_by_layer(run: str) -> pd.DataFrame:
    """The feature of highest r of each layer (those at the floor), with what chance reaches there (level, chance_p)."""
    return query(
        run,
        f"SELECT layer, feature, {', '.join(f'features.{name}' for name in COLUMNS)}, level, median, "
        f"chance.p AS chance_p FROM features LEFT JOIN chance USING (layer) "
        "WHERE r IS NOT NULL AND support >= (SELECT floor FROM fits) "
        "QUALIFY row_number() OVER (PARTITION BY layer ORDER BY r DESC, feature) = 1 ORDER BY layer",
    )


def in_both(run: str, other: str) -> pd.DataFrame:
    """The features that two runs both rank, with the same SAEs: layer, feature, r, other_r, description, description_source.

    A run ranks what has an r and reaches its floor of support. A feature that `run` does not describe is said to mean
    what `other` says. Empty where no SAE is in both.
    """
    layers = shared_layers(run, other)
    found, others = (_ranked(one, layers) for one in (run, other))
    both = found.merge(others.rename(columns={"r": "other_r"}), on=["layer", "feature"], suffixes=("", "_other"))
    for name in ("description_source", "description"):
        both[name] = both[name].where(both["description"].notna(), both[f"{name}_other"])
    return both.drop(columns=["description_other", "description_source_other"])


def _ranked(run: str, layers: Sequence[int]) -> pd.DataFrame:
    return query(
        run,
        f"WITH {described(run)} SELECT layer, feature, r, description, description_source FROM features LEFT JOIN described "
        "USING (layer, feature) WHERE r IS NOT NULL AND support >= (SELECT floor FROM fits) "
        "AND list_contains($layers, layer) ORDER BY layer, feature",
        {"layers": list(layers)},
    )


def shared_layers(run: str, other: str) -> list[int]:
    """The layers at which two runs read the same SAE, at the same place."""
    found = [
        {(sae["layer"], sae["hook_name"], sae["fingerprint"]) for sae in json.loads(config)["saes"]}
        for config in (query(one, "SELECT config FROM runs")["config"][0] for one in (run, other))
    ]
    return sorted(layer for layer, _, _ in found[0] & found[1])


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


CLOUD = 1200


def cloud(run: str, limit: int = CLOUD) -> pd.DataFrame:
    """Ranked features for a picture: of more than `limit`, half of them those of the largest |r|, half a sample of the rest.

    `ranked`, in every row, is how many there are.
    """
    return query(
        run,
        "WITH places AS (SELECT layer, feature, r, coefficient, support, frequency, count(*) OVER () AS ranked, "
        "row_number() OVER (ORDER BY abs(r) DESC, layer, feature) <= $half AS largest FROM features "
        "WHERE r IS NOT NULL AND support >= (SELECT floor FROM fits)) "
        "SELECT * EXCLUDE largest FROM places QUALIFY ranked <= $limit OR largest "
        "OR row_number() OVER (PARTITION BY largest ORDER BY hash(layer, feature)) <= $rest "
        "ORDER BY abs(r) DESC, layer, feature",
        {"half": limit // 2, "rest": limit - limit // 2, "limit": limit},
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


def with_intervals(effects: pd.DataFrame) -> pd.DataFrame:
    """Measured effects with the 95% intervals of both rates: low, high, unsteered_low, unsteered_high (Wilson)."""
    after = [wilson(row.steered_rate * row.n, int(row.n)) for row in effects.itertuples()]
    before = [wilson(row.unsteered_rate * row.n, int(row.n)) for row in effects.itertuples()]
    return effects.assign(
        low=[one.low for one in after],
        high=[one.high for one in after],
        unsteered_low=[one.low for one in before],
        unsteered_high=[one.high for one in before],
    )


def best_effects(run: str) -> pd.DataFrame:
    """Each tried feature at the scale where it did best (columns as in `effects`, best first), and where it did worst.

    The worst is in `worst_effect`, `worst_scale` and `worst_p`; `tries` counts scales.
    """
    found = effects(run)
    best = found.drop_duplicates(["layer", "feature"])
    worst = found.iloc[::-1].drop_duplicates(["layer", "feature"])
    worst = worst[["layer", "feature", "effect", "scale", "p"]]
    worst = worst.rename(columns={name: f"worst_{name}" for name in ("effect", "scale", "p")})
    tries = found.groupby(["layer", "feature"]).size().rename("tries").reset_index()
    return best.merge(worst, on=["layer", "feature"]).merge(tries, on=["layer", "feature"])


def predicted_features(run: str) -> int:
    """How many features have a prediction that holds for the fit of today."""
    sql = f"WITH {predicted(run)} SELECT count(predicted_effect) AS n FROM predicted"
    return int(query(run, sql)["n"][0])


def known_columns(run: str) -> set[str]:
    """The columns that have a value for any feature: r within a class has none where the task has no classes."""
    counts = query(run, f"SELECT {', '.join(f'count({name}) AS {name}' for name in COLUMNS)} FROM features")
    return {name for name in COLUMNS if counts[name][0]}


def described_features(run: str) -> int:
    """How many features have a description."""
    sql = f"WITH {described(run)} SELECT count(*) AS n FROM described"
    return int(query(run, sql)["n"][0])
