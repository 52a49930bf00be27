"""Measuring steering: outcomes of the same samples unsteered and steered, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.engine.batches import answers, in_halves, plan, prompts_that_fit, rows_that_fit
from corrsteer_core.engine.choosing import Choose, greedy
from corrsteer_core.engine.class_probabilities import ClassTokens
from corrsteer_core.engine.continuing import continued
from corrsteer_core.engine.generation import UNSTEERED, Vectors, prefill
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import answer_text, render
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.statistics import rates
from corrsteer_core.statistics.graded import graded_change
from corrsteer_core.statistics.paired import difference_interval, ser_interval
from corrsteer_core.tasks import Item, Scorer

READ_TOGETHER = 32
"""Prompts whose answers are scored together, where memory holds so many."""
LOGITS_BYTES = 2**29
"""Logits held at once while likelihoods are measured."""


@dataclass(frozen=True)
class Trial:
    """Results of some items under several variants; the first axis is the item, the second the variant."""

    items: tuple[Item, ...]
    texts: list[list[str]]
    tokens: list[list[list[int]]]
    outcomes: np.ndarray  # (items, variants) float64
    class_logp: tuple[np.ndarray, ...] = ()
    """Per item (variants, its choices): log-probabilities at the first generation position. () where not asked for."""


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
        done += len(batch.prompts)
        on_progress(0)
    outcomes = [[scorer(text, item) for text in row] for row, item in zip(texts, items, strict=True)]
    return Trial(tuple(items), texts, tokens, np.array(outcomes, dtype=np.float64), tuple(logp))


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
    """Exact McNemar test; for graded outcomes, the sign-flip test of their differences."""

    @property
    def effect(self) -> float:
        """Steered minus unsteered rate."""
        return self.steered_rate - self.unsteered_rate


def compare(found: Trial, variant: int, baseline: int = 0) -> Comparison:
    """A variant of a trial against its baseline (the unsteered one)."""
    before, after = found.outcomes[:, baseline], found.outcomes[:, variant]
    flipped = rates.flips(before, after)
    p, gain = _paired(before, after, flipped)
    changed = sum(row[baseline] != row[variant] for row in found.texts)
    return Comparison(
        n=len(before),
        unsteered_rate=float(before.mean()),
        steered_rate=float(after.mean()),
        unsteered_interval=rates.wilson(float(before.sum()), len(before)),
        steered_interval=rates.wilson(float(after.sum()), len(after)),
        positive_flips=flipped.positive,
        negative_flips=flipped.negative,
        changed=changed,
        effect_interval=gain,
        ser=rates.ser(flipped.positive, flipped.negative),
        ser_interval=ser_interval(flipped.positive, flipped.negative),
        negative_share=rates.negative_share(flipped.negative, changed),
        p=p,
    )


def _paired(before: np.ndarray, after: np.ndarray, flipped: rates.Flips) -> tuple[float, rates.Interval | None]:
    """p and 95% interval of the difference, of a kind that agree."""
    if np.isin(np.concatenate([before, after]), (0.0, 1.0)).all():
        p = rates.mcnemar_p(flipped.positive, flipped.negative)
        return p, difference_interval(flipped.positive, flipped.negative, len(before))
    change = graded_change(before, after, seed=0)
    return change.p, change.interval


def fluency(
    model: Model,
    prompts: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[Sequence[int]]],
    *,
    stage: str = "measuring fluency",
    progress: Progress = silent,
) -> np.ndarray:
    """Mean negative log-likelihood per token, in nats, of each output given its prompt under the unsteered model.

    `outputs` are ids [prompt][variant]; the result is (prompts, variants) float64, nan for an output
    without tokens. A prompt is read once for all its outputs, and equal outputs are scored once. Out of memory halves
    the batch.
    """
    found = np.full((len(prompts), len(outputs[0]) if outputs else 0), np.nan)
    if not len(prompts):
        return found
    longest = max((len(output) for of_prompt in outputs for output in of_prompt), default=0)
    done = 0

    def score(places: list[int]) -> list[int]:
        distinct = [sorted({tuple(output) for output in outputs[place] if len(output)}) for place in places]
        scores = continuation_nll(model, [prompts[place] for place in places], distinct)
        for place, of_prompt in zip(places, scores, strict=True):
            found[place] = [of_prompt.get(tuple(output), np.nan) for output in outputs[place]]
        return places

    for batch in plan(prompts, min(READ_TOGETHER, prompts_that_fit(model, prompts, longest))):
        for places in in_halves(score, batch, model, prompts, longest):
            done += len(places)
            progress(stage, done, len(prompts))
    return found


def mean_fluency(found: np.ndarray) -> list[float | None]:
    """Mean over the prompts for each variant of what `fluency` returned; None where no text had a token."""
    known = ~np.isnan(found)
    return [float(of[here].mean()) if here.any() else None for of, here in zip(found.T, known.T, strict=True)]


@torch.inference_mode()
def continuation_nll(
    model: Model, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[tuple[int, ...]]]
) -> list[dict[tuple[int, ...], float]]:
    """For each prompt, the mean negative log-likelihood per token of each of its outputs (none empty), in nats."""
    found: list[dict[tuple[int, ...], float]] = [{} for _ in prompts]
    rows = [(place, output) for place, of_prompt in enumerate(outputs) for output in of_prompt]
    if not rows:
        return found
    prefix = prefill(model, prompts)
    steps = max(len(output) for _, output in rows)
    in_logits = LOGITS_BYTES // (steps * model.text_config.vocab_size * 8)
    together = max(1, min(in_logits, rows_that_fit(model, prefix.places.shape[1] + steps)))
    for start in range(0, len(rows), together):
        some = rows[start : start + together]
        logp = continued(model, prefix, [place for place, _ in some], [output for _, output in some])
        logp = logp.cpu()  # Apple's GPUs have no float64
        for (place, output), of_row in zip(some, logp, strict=True):
            found[place][output] = -of_row[: len(output)].double().mean().item()
    return found


def unsteered_and(*variants: Vectors) -> list[Vectors]:
    """Variants with the unsteered one first, as `compare` expects them."""
    return [UNSTEERED, *variants]
