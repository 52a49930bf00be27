"""The features that fire on a text, the most active first, with what a run knows of them; and the text piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.formatting import missing
from corrsteer_core.inspection import descriptions, logit_lens
from corrsteer_core.inspection.firing import ReadText, Wanted
from corrsteer_core.models.loading import Model
from corrsteer_core.runs import feature_lists
from corrsteer_core.saes.sae import Sae

SORTS = ("value", "share", "r", "tokens")
"""Columns that `table` can be sorted by, the largest first."""
_ORDER, _WAYS = ["value", "layer", "feature", "token"], [False, True, True, True]


def positions(found: ReadText, wanted: Wanted = Wanted()) -> str:
    """Which tokens count, and which a run would look at, in a sentence or two."""
    run = "the last prompt token and every generated token but the last"
    if wanted.where == "generation":
        return f"Only the {len(found.counted(wanted)):,} positions that a run looks at count: {run}."
    typed, written = found.parts.count("text"), found.parts.count("answer")
    answer = f" and of the answer ({written:,})" if written else ""
    without = "" if wanted.first else ", but for the very first one that was read"
    around = "; what stands around them, as a chat template, does not" if "around" in found.parts else ""
    return f"Every token of your text ({typed:,}){answer} counts{without}{around}. A run looks only at {run}."


def strongest(found: ReadText, wanted: Wanted = Wanted()) -> pd.DataFrame:
    """The features that fire: layer, feature, value (the largest), token (where that is), tokens (how many it fires at), share.

    The most active first. Activations of different layers are in different units, deeper ones tend to be larger: `share`
    is that of the largest value in the same layer. `tokens` counts all tokens, also where a single one is looked at.
    """
    times = _kept(found, replace(wanted, token=None)).groupby(["layer", "feature"]).size().rename("tokens")
    rows = _kept(found, wanted).sort_values(_ORDER, ascending=_WAYS)
    best = rows.drop_duplicates(["layer", "feature"]).join(times, on=["layer", "feature"])
    best = best.assign(share=best["value"] / best.groupby("layer")["value"].transform("max"))
    return best[["layer", "feature", "value", "share", "token", "tokens"]].reset_index(drop=True)


def by_piece(found: ReadText, wanted: Wanted = Wanted(), top: int = 3) -> pd.DataFrame:
    """Piece by piece of the text: token (its first), text, features (how many fire), strongest (a list of `top` of them).

    Each of `strongest` is (layer, feature, value). Pieces of which no token counts are left out.
    """
    counted = set(found.counted(wanted))
    pieces = [span for span in found.spans if counted & set(range(span.start, span.stop))]
    of_token = {place: at for at, span in enumerate(pieces) for place in range(span.start, span.stop)}
    rows = _kept(found, wanted)
    rows = rows.assign(piece=rows["token"].map(of_token)).sort_values(_ORDER, ascending=_WAYS)
    rows = rows.drop_duplicates(["piece", "layer", "feature"])
    sizes = rows.groupby("piece").size()
    best: dict[int, list[tuple[int, int, float]]] = {at: [] for at in range(len(pieces))}
    for row in rows.groupby("piece").head(top).itertuples():
        best[int(row.piece)].append((int(row.layer), int(row.feature), float(row.value)))
    return pd.DataFrame(
        {
            "token": [span.start for span in pieces],
            "text": [span.text for span in pieces],
            "features": [int(sizes.get(at, 0)) for at in range(len(pieces))],
            "strongest": list(best.values()),
        }
    )


def values(found: ReadText, features: pd.DataFrame, wanted: Wanted = Wanted()) -> np.ndarray:
    """The activations of some features (rows with layer and feature) at every token that counts: (features, tokens)."""
    counted = found.counted(wanted)
    column = {place: at for at, place in enumerate(counted)}
    row = {key: at for at, key in enumerate(zip(features["layer"], features["feature"], strict=True))}
    dense = np.zeros((len(features), len(counted)), np.float32)
    kept = found.active[
        found.active["layer"].isin(features["layer"]) & found.active["feature"].isin(features["feature"])
    ]
    for one in kept.itertuples():
        if (one.layer, one.feature) in row and one.token in column:
            dense[row[one.layer, one.feature], column[one.token]] = one.value
    return dense


def table(
    run: str, found: ReadText, wanted: Wanted = Wanted(), *, ranked: bool = False, sort: str = "value"
) -> pd.DataFrame:
    """The features of `strongest` with what a run knows of them: r, coefficient, effect, description, description_source.

    Null where it knows nothing. `ranked` keeps those whose r is known, `sort` is one of SORTS.
    """
    if sort not in SORTS:
        raise CorrSteerError(f"The features cannot be sorted by {sort!r}; choose one of {', '.join(SORTS)}.")
    rows = strongest(found, wanted)
    known = feature_lists.known_of(run, rows[["layer", "feature"]])
    rows = rows.merge(known, on=["layer", "feature"], how="left")
    rows = rows[rows["r"].notna()] if ranked else rows
    return rows.sort_values(sort, ascending=False, kind="stable", na_position="last").reset_index(drop=True)


def promises(
    model: Model, saes: Sequence[Sae], features: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], list[str]]:
    """The few words that each feature (layer, feature) promotes most: its meaning, as far as nobody has described it."""
    found: dict[tuple[int, int], list[str]] = {}
    for sae in saes:
        own = [feature for layer, feature in features if layer == sae.layer]
        for feature, tokens in zip(own, logit_lens.promoted(model, sae, own), strict=True):
            found[sae.layer, feature] = descriptions.distinct([one.text for one in tokens.promoted])
    return found


def named(found: ReadText, rows: pd.DataFrame, model: Model, saes: Sequence[Sae]) -> pd.DataFrame:
    """Some rows of `table` with at (the piece of text where each is most active) and meaning, known or guessed."""
    keys = list(zip(rows["layer"].tolist(), rows["feature"].tolist(), strict=True))
    unknown = [key for key, text in zip(keys, rows["description"], strict=True) if missing(text)]
    guessed = {key: descriptions.own_guess(words, []) for key, words in promises(model, saes, unknown).items()}
    meanings = [guessed.get(key, text) for key, text in zip(keys, rows["description"], strict=True)]
    return rows.assign(at=[found.label(int(token)) for token in rows["token"]], meaning=meanings)


def _kept(found: ReadText, wanted: Wanted) -> pd.DataFrame:
    rows = found.active
    if wanted.layers:
        rows = rows[rows["layer"].isin(wanted.layers)]
    if wanted.among is not None:
        rows = rows[_named_in(rows, wanted.among)]
    if not wanted.everywhere:
        of_all = found.counted(replace(wanted, token=None))
        rows = rows[rows["token"].isin(of_all)]
        times = rows.groupby(["layer", "feature"])["token"].transform("size")
        rows = rows[times <= max(2.0, len(of_all) / 2)]
    return rows[rows["token"].isin(found.counted(wanted))]


def _named_in(rows: pd.DataFrame, features: frozenset[tuple[int, int]]) -> np.ndarray:
    """Which rows are of these features."""
    if not features:
        return np.zeros(len(rows), bool)
    return pd.MultiIndex.from_frame(rows[["layer", "feature"]]).isin(sorted(features))
