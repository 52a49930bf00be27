"""How fluent texts are: their likelihood under the unsteered model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.engine.batches import plan
from corrsteer_core.engine.continuing import continued
from corrsteer_core.engine.generation import prefill
from corrsteer_core.models.limits import in_halves, prompts_that_fit, rows_that_fit
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.saes.sae import Sae
from corrsteer_core.workers.parts import as_parquet, from_parquet
from corrsteer_core.workers.pool import done

READ_TOGETHER = 32
"""Prompts whose answers are scored together, where memory holds so many."""
LOGITS_BYTES = 2**29
"""Logits held at once while likelihoods are measured."""


def fluency(
    model: Model,
    prompts: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[Sequence[int]]],
    *,
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
    work = _Work(prompts, outputs)
    measured = 0

    def on_progress(prompts_of_batch: float) -> None:
        progress("measuring fluency", int(measured + prompts_of_batch), len(prompts))

    batches = plan(prompts, min(READ_TOGETHER, prompts_that_fit(model, prompts, work.longest)))
    for scores in done(model, (), work, batches, on_progress):
        found[scores.prompts] = scores.nll
        measured += len(scores.prompts)
        on_progress(0)
    return found


@dataclass(frozen=True)
class _Scores:
    prompts: list[int]
    nll: np.ndarray  # (prompts, variants)


@dataclass(frozen=True)
class _Work:
    """What is asked of every batch of prompts."""

    prompts: Sequence[Sequence[int]]
    outputs: Sequence[Sequence[Sequence[int]]]
    sae_refs: tuple[SaeRef, ...] = ()

    @property
    def longest(self) -> int:
        return max((len(output) for of_prompt in self.outputs for output in of_prompt), default=0)

    def identity(self) -> bytes:
        about = [[list(one) for one in self.prompts], [[list(one) for one in row] for row in self.outputs]]
        return hashlib.sha256(b"fluency" + json.dumps(about).encode()).digest()

    def ready(
        self, model: Model, saes: Sequence[Sae], on_progress: Callable[[float], None]
    ) -> Callable[[list[int]], Iterator[_Scores]]:
        def score(places: list[int]) -> _Scores:
            of_places = [self.outputs[place] for place in places]
            distinct = [sorted({tuple(output) for output in outputs if len(output)}) for outputs in of_places]
            scores = continuation_nll(model, [self.prompts[place] for place in places], distinct)
            rows = [
                [one.get(tuple(output), np.nan) for output in outputs]
                for one, outputs in zip(scores, of_places, strict=True)
            ]
            return _Scores(list(places), np.array(rows, dtype=np.float64))

        return lambda batch: in_halves(score, batch, model, self.prompts, self.longest)

    def encode(self, results: Sequence[_Scores]) -> bytes:
        rows = [
            (part, one, nll) for part, of in enumerate(results) for one, nll in zip(of.prompts, of.nll, strict=True)
        ]
        part, prompt, nll = zip(*rows, strict=True)
        columns = {"part": pa.array(part, pa.int32()), "prompt": pa.array(prompt, pa.int64()), "nll": list(nll)}
        return as_parquet(pa.table(columns))

    def decode(self, data: bytes) -> list[_Scores]:
        table = from_parquet(data).to_pandas()
        return [_Scores(some["prompt"].tolist(), np.stack(some["nll"])) for _, some in table.groupby("part", sort=True)]


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
