"""Everything the model and its SAEs say about one feature, put together for whoever shows it; and guesses for many.

What the run's cache says by itself is in `runs.feature_facts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.inspection import descriptions, logit_lens, token_activations
from corrsteer_core.inspection.logit_lens import Neighbour, Promoted
from corrsteer_core.inspection.token_activations import FeatureActivations, Text
from corrsteer_core.models.loading import Model, load_model
from corrsteer_core.runs import feature_facts, stored_run
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.saes import named_saes
from corrsteer_core.saes.sae import Sae
from corrsteer_core.storage.reading import query

EACH = 4
"""Texts shown of each part of a feature's activations."""
WORDS = 4
"""Tokens that are named of a neighbour."""
PEAKS = 3  # top texts in which a guess looks for the token of highest activation


@dataclass(frozen=True)
class SampleActivations:
    """A sample of the run with a feature's activation at every token."""

    part: str
    """Which part of the feature's activations it stands for (see `feature_facts.texts_by_quantile`)."""
    sample: str
    split: str
    outcome: float
    stored: float
    """The pooled activation that the run holds."""
    activations: FeatureActivations


@dataclass(frozen=True)
class FeatureProfile:
    """One feature as the model and the SAEs have it."""

    layer: int
    feature: int
    tokens: Promoted
    within: tuple[Neighbour, ...]
    """Nearest features of its own layer."""
    elsewhere: tuple[Neighbour, ...]
    """Nearest features of the run's other layers."""
    samples: tuple[SampleActivations, ...]
    guess: str
    """A description of our own."""

    @property
    def highest(self) -> float:
        """The largest activation in any of the texts, where the marks are deepest."""
        return max((max(one.activations.values) for one in self.samples), default=0.0)


def profile_of(
    run: str, layer: int, feature: int, model: Model, saes: Sequence[Sae], *, progress: Progress = silent
) -> FeatureProfile:
    """Draw a feature's profile. Raises CorrSteerError for a layer or feature the run does not have.

    No hook is on the model where `progress` is called.
    """
    config, _ = stored_run.stored(run)
    sae = sae_of(saes, layer)
    (tokens,) = logit_lens.promoted(model, sae, [feature])
    rows = feature_facts.texts_by_quantile(run, layer, feature, EACH)
    found: list[FeatureActivations] = []
    for start in range(0, len(rows), EACH):
        progress("reading this feature's texts", start, len(rows))
        texts = [text_of_sample(model, config, row) for row in rows.iloc[start : start + EACH].itertuples()]
        found += token_activations.feature_activations(model, sae, feature, texts)
    progress("comparing it with other features", 0, 1)
    samples = tuple(
        SampleActivations(str(row.part), str(row.sample), str(row.split), float(row.outcome), float(row.value), one)
        for row, one in zip(rows.itertuples(), found, strict=True)
    )
    strongest = [peak(model, one.activations.text, np.array(one.activations.values)) for one in samples[:EACH]]
    return FeatureProfile(
        layer,
        feature,
        tokens,
        _in_words(model, saes, logit_lens.nearest([sae], layer, feature)),
        _in_words(model, saes, logit_lens.nearest(saes, layer, feature, elsewhere=True)),
        samples,
        descriptions.own_guess([one.text for one in tokens.promoted], strongest),
    )


def _in_words(model: Model, saes: Sequence[Sae], found: Sequence[Neighbour]) -> tuple[Neighbour, ...]:
    """Neighbours with the tokens that each makes likelier."""
    said: dict[tuple[int, int], tuple[str, ...]] = {}
    for layer in {one.layer for one in found}:
        features = [one.feature for one in found if one.layer == layer]
        for feature, tokens in zip(
            features, logit_lens.promoted(model, sae_of(saes, layer), features, WORDS), strict=True
        ):
            said[layer, feature] = tuple(token.text for token in tokens.promoted)
    return tuple(replace(one, promotes=said[one.layer, one.feature]) for one in found)


def sae_of(saes: Sequence[Sae], layer: int) -> Sae:
    """The SAE of a layer. Raises CorrSteerError if there is none."""
    for sae in saes:
        if sae.layer == layer:
            return sae
    known = ", ".join(str(sae.layer) for sae in saes)
    raise CorrSteerError(f"This run has no SAE of layer {layer}; its layers are {known}.")


def text_of_sample(model: Model, config: RunConfig, row: Any) -> Text:
    """A row of the run's samples as the model read it while it was collected."""
    return token_activations.answered(model, row.prompt, row.output, int(row.tokens), config.style)


def own_text(
    run: str, layer: int, feature: int, prompt: str, answer: str, model: Model, saes: Sequence[Sae]
) -> FeatureActivations:
    """A feature on a prompt and answer that a user typed, put to the model as in the run."""
    config, _ = stored_run.stored(run)
    text = token_activations.text_of(model, prompt, config.style, answer)
    return token_activations.feature_activations(model, sae_of(saes, layer), feature, [text])[0]


def peak(model: Model, text: Text, values: np.ndarray) -> str:
    """The piece of text at which a feature is most active among the positions after the first.

    The very first token is left out, since many features fire on it whatever it is.
    """
    first = 1 if len(values) > 1 else 0
    place = first + int(values[first:].argmax())
    return next(span.text for span in token_activations.spans(model, text.tokens) if span.start <= place < span.stop)


# --- many ----------------------------------------------------------------------------------------


def describe(
    run: str, *, top: int = descriptions.GUESSED, model: Model | None = None, saes: Sequence[Sae] | None = None,
    progress: Progress = silent,
) -> int:  # fmt: skip
    """Store a guess of our own and the promoted tokens of the run's `top` features; returns how many were described.

    Those are the features that have been tried, then those of the largest |r|. One pass reads every
    text that is among the strongest of any of them.
    """
    config, _ = stored_run.stored(run)
    wanted = foremost(run, top)
    if wanted.empty:
        return 0
    model = model or load_model(config.model, like=config.dtype)
    saes = saes or named_saes.saes_of(config.saes, model)
    peaks = _peaks(run, config, wanted, model, saes, progress)
    rows = []
    by_layer = wanted.groupby("layer")["feature"].apply(list)
    for layer, features in by_layer.items():
        for feature, tokens in zip(features, logit_lens.promoted(model, sae_of(saes, layer), features), strict=True):
            names = [one.text for one in tokens.promoted]
            guess = descriptions.own_guess(names, peaks.get((layer, feature), []))
            joined = "\n".join(name.strip() for name in names)
            row = {"layer": layer, "feature": feature, "source": "own", "description": guess}
            rows.append({**row, "promoted": joined})
    if rows:
        descriptions.keep(run, pd.DataFrame(rows))
    return len(rows)


def foremost(run: str, top: int) -> pd.DataFrame:
    """layer, feature of the features to describe first."""
    return query(
        run,
        "SELECT layer, feature FROM features LEFT JOIN (SELECT DISTINCT layer, feature, true AS tried FROM effects) "
        "USING (layer, feature) WHERE r IS NOT NULL AND support >= (SELECT floor FROM fits) "
        "ORDER BY tried NULLS LAST, abs(r) DESC, layer, feature LIMIT ?",
        [top],
    )


def _peaks(
    run: str, config: RunConfig, wanted: pd.DataFrame, model: Model, saes: Sequence[Sae], progress: Progress
) -> dict[tuple[int, int], list[str]]:
    """The tokens at which each feature is most active in its strongest texts."""
    tops = {
        (int(row.layer), int(row.feature)): feature_facts.top_texts(run, int(row.layer), int(row.feature), PEAKS)[
            "sample"
        ].tolist()
        for row in wanted.itertuples()
    }
    samples = query(
        run,
        "SELECT sample, prompt, output, tokens FROM samples WHERE list_contains($names, sample) ORDER BY sample",
        {"names": sorted({sample for names in tops.values() for sample in names})},
    )
    columns = {int(layer): list(map(int, rows["feature"])) for layer, rows in wanted.groupby("layer")}
    found: dict[str, dict[tuple[int, int], str]] = {}
    for start in range(0, len(samples), token_activations.TOGETHER):
        progress("reading the texts of features", start, len(samples))
        some = samples.iloc[start : start + token_activations.TOGETHER]
        texts = [text_of_sample(model, config, row) for row in some.itertuples()]
        for sample, text, values in zip(
            some["sample"], texts, token_activations.activations(model, saes, columns, texts), strict=True
        ):
            found[sample] = {
                (layer, feature): peak(model, text, values[layer][:, place])
                for layer, features in columns.items()
                for place, feature in enumerate(features)
                if sample in tops[layer, feature]
            }
    progress("reading the texts of features", len(samples), len(samples))
    return {key: [found[sample][key] for sample in names if sample in found] for key, names in tops.items()}


def as_json(one: FeatureProfile) -> dict[str, Any]:
    """A profile as plain values, every token with its activation."""
    return {
        "promoted": [asdict(token) for token in one.tokens.promoted],
        "suppressed": [asdict(token) for token in one.tokens.suppressed],
        "nearest_within": [asdict(neighbour) for neighbour in one.within],
        "nearest_elsewhere": [asdict(neighbour) for neighbour in one.elsewhere],
        "guess": one.guess,
        "texts": [
            {
                "part": sample.part,
                "sample": sample.sample,
                "split": sample.split,
                "outcome": sample.outcome,
                "pooled": sample.stored,
                "tokens": [
                    {
                        "text": span.text,
                        "activation": sample.activations.value(span),
                        "answer": sample.activations.is_answer(span),
                        "pooled": sample.activations.is_pooled(span),
                    }
                    for span in sample.activations.spans
                ],
            }
            for sample in one.samples
        ],
    }
