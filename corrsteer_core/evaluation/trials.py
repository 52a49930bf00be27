"""Measuring steering: outcomes of the same samples unsteered and steered, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.choosing import Choose, greedy
from corrsteer_core.engine.class_probabilities import ClassTokens
from corrsteer_core.engine.generation import UNSTEERED, Vectors
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import answer_text, render
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.statistics import rates
from corrsteer_core.statistics.clusters import paired_test
from corrsteer_core.statistics.paired import ser_interval
from corrsteer_core.tasks import Item, Scorer


@dataclass(frozen=True)
class Trial:
    """Results of some items under several variants; the first axis is the item, the second the variant."""

    items: tuple[Item, ...]
    texts: list[list[str]]
    tokens: list[list[list[int]]]
    outcomes: np.ndarray  # (items, variants) float64
    class_logp: tuple[np.ndarray, ...] = ()
    """Per item (variants, its choices): log-probabilities at the first generation position. () where not asked for."""
    leads: np.ndarray | None = None
    """(items, variants) nats between the likeliest first token and the next; None where that was not read."""


def trial(
    model: Model,
    items: Sequence[Item],
    variants: Sequence[Vectors],
    *,
    style: PromptStyle,
    scorer: Scorer,
    max_new_tokens: int,
    choose: Choose = greedy,
    classes: Sequence[ClassTokens] = (),
    stage: str = "measuring",
    progress: Progress = silent,
) -> Trial:
    """Answer every item under every variant and score it. `classes`, one entry an item, asks for their log-probabilities too."""
    if not items:
        raise CorrSteerError("There is no item to measure on; check the split and the limit.")
    texts: list[list[str]] = [[] for _ in items]
    tokens: list[list[list[int]]] = [[] for _ in items]
    prompts = [render(model, item.prompt, style) for item in items]
    logp: list[np.ndarray] = [np.zeros((0, 0)) for _ in classes]
    leads = np.zeros((len(items), len(variants)))
    done = 0

    def on_progress(prompts_of_batch: float) -> None:
        progress(stage, int(done + prompts_of_batch), len(items))

    on_progress(0)
    for batch in answers(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        variants=variants,
        choose=choose,
        classes=classes,
        on_progress=on_progress,
    ):
        for place, of_prompt in zip(batch.prompts, batch.tokens, strict=True):
            tokens[place] = of_prompt
            texts[place] = [answer_text(model, ids) for ids in of_prompt]
        for place, likely in zip(batch.prompts, batch.class_logp, strict=bool(classes)):
            logp[place] = likely
        leads[batch.prompts] = batch.leads
        done += len(batch.prompts)
        on_progress(0)
    outcomes = [[scorer(text, item) for text in row] for row, item in zip(texts, items, strict=True)]
    return Trial(tuple(items), texts, tokens, np.array(outcomes, dtype=np.float64), tuple(logp), leads)


@dataclass(frozen=True)
class Comparison:
    """One variant against the unsteered texts of the same samples."""

    n: int
    unsteered_rate: float
    steered_rate: float
    unsteered_interval: rates.Interval
    """Wilson 95% interval."""
    steered_interval: rates.Interval
    positive_flips: int
    negative_flips: int
    changed: int
    """Samples whose text changed."""
    effect_interval: rates.Interval | None
    """95% interval of steered minus unsteered over the same samples, which leaves out 0 exactly when p < 0.05."""
    ser: float | None
    ser_interval: rates.Interval | None
    """Clopper-Pearson 95% interval of the side effect ratio."""
    negative_share: float | None
    """Negative flips / samples whose text changed."""
    p: float
    """Exact McNemar test; for graded outcomes, the sign-flip test of their differences; of clusters, that of their sums."""
    test: str = "mcnemar"
    """Which of them: mcnemar, sign flip or clusters."""
    clusters: int | None = None
    """How many clusters the samples come in; None where each stands alone."""

    @property
    def effect(self) -> float:
        """Steered minus unsteered rate."""
        return self.steered_rate - self.unsteered_rate


def compare(found: Trial, variant: int) -> Comparison:
    """A variant of a trial against its first one, the unsteered."""
    before, after = found.outcomes[:, 0], found.outcomes[:, variant]
    flipped = rates.flips(before, after)
    tested = paired_test(before, after, clusters_of(found.items))
    changed = sum(row[0] != row[variant] for row in found.texts)
    return Comparison(
        n=len(before),
        unsteered_rate=float(before.mean()),
        steered_rate=float(after.mean()),
        unsteered_interval=rates.wilson(float(before.sum()), len(before)),
        steered_interval=rates.wilson(float(after.sum()), len(after)),
        positive_flips=flipped.positive,
        negative_flips=flipped.negative,
        changed=changed,
        effect_interval=tested.interval,
        ser=rates.ser(flipped.positive, flipped.negative),
        ser_interval=ser_interval(flipped.positive, flipped.negative),
        negative_share=rates.negative_share(flipped.negative, changed),
        p=tested.p,
        test=tested.test,
        clusters=tested.clusters,
    )


def clusters_of(items: Sequence[Item]) -> list[str]:
    """The cluster of each item, one that stands alone being its own; [] where all do."""
    return [item.cluster or item.id for item in items] if any(item.cluster for item in items) else []


def unsteered_and(*variants: Vectors) -> list[Vectors]:
    """Variants with the unsteered one first, as `compare` expects them."""
    return [UNSTEERED, *variants]


def sample_table(found: Trial, items: Sequence[Item], variant: int) -> pd.DataFrame:
    """What an evaluation keeps of each sample of a trial, for one variant beside the unsteered one."""
    return pd.DataFrame(
        {
            "sample": [item.id for item in items],
            "prompt": [item.prompt for item in items],
            "target": [item.target for item in items],
            "unsteered": [row[0] for row in found.texts],
            "steered": [row[variant] for row in found.texts],
            "outcome_unsteered": found.outcomes[:, 0],
            "outcome_steered": found.outcomes[:, variant],
        }
    )
