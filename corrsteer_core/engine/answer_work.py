"""Answering a batch of prompts under every variant: what is asked, what comes back, and both as files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from torch import Tensor

from corrsteer_core.engine.choosing import Choose, greedy
from corrsteer_core.engine.class_probabilities import ClassTokens, log_probabilities
from corrsteer_core.engine.generation import (
    Opening,
    Step,
    decode,
    prefill,
    read_opening,
    tokens_by_row,
)
from corrsteer_core.engine.operations import Told, Vectors, understood
from corrsteer_core.engine.pooling import Pooler
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.limits import in_halves, variants_that_fit
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.saes.sae import Sae, ref_of
from corrsteer_core.workers.parts import as_parquet, from_parquet


@dataclass(frozen=True)
class Answers:
    """The result of one batch of prompts."""

    prompts: list[int]
    """Which prompts, by their place in the list that was asked."""
    tokens: list[list[list[int]]]
    """[prompt][variant] -> generated ids, the end token included."""
    pooled: list[Tensor] | None
    """Per SAE (prompts, d_sae), when features were read."""
    class_logp: list[np.ndarray] = field(default_factory=list)
    """[prompt] -> (variants, classes) at the first generation position, when classes were named."""
    leads: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """(prompts, variants) nats between the likeliest first token and the next."""


@dataclass(frozen=True)
class AnswerWork:
    """What is asked of every batch."""

    prompts: Sequence[Sequence[int]]
    max_new_tokens: int
    variants: Sequence[Mapping[HookPoint, Tensor | Told]]
    """That differ in what they do (see `generation.set_apart`), in plain values."""
    pooling: str
    pooled: tuple[SaeRef, ...] = ()
    """The SAEs whose features are read, if any."""
    classes: Sequence[ClassTokens] = ()
    choose: Choose = greedy

    @property
    def sae_refs(self) -> tuple[SaeRef, ...]:
        """Those, and the ones that variants read activations with."""
        parts = [one for vectors in self.variants for one in vectors.values() if isinstance(one, Told)]
        steering = [ref for one in parts for ref in (one.sae, *one.conditions.values())]
        return tuple(dict.fromkeys((*self.pooled, *steering)))

    def identity(self) -> bytes:
        """All that the answers depend on beside batch, model and conditions."""
        digest = hashlib.sha256()
        for prompt in self.prompts:  # one by one: those of all as one text would be many times what they take
            digest.update(json.dumps(list(prompt)).encode())
        about = [self.max_new_tokens, self.pooling, self.classes, [ref.fingerprint for ref in self.pooled]]
        digest.update(json.dumps(about).encode())
        for vectors in self.variants:
            digest.update(b"variant")
            for point, one in sorted(vectors.items(), key=lambda pair: pair[0]):
                vector = one.constant if isinstance(one, Told) else one
                digest.update(point.name.encode() + vector.cpu().float().numpy().tobytes())
                digest.update(one.identity() if isinstance(one, Told) else b"")
        return digest.digest()

    def ready(
        self, model: Model, saes: Sequence[Sae], on_progress: Callable[[float], None]
    ) -> Callable[[list[int]], Iterator[Answers]]:
        """What answers a batch, in halves where memory does not hold it; what all prompts begin with is read here, once."""
        read = [next(sae for sae in saes if ref_of(sae) == ref) for ref in self.pooled]
        pooler = Pooler(model, read, 1, self.pooling) if read else None
        opening = read_opening(model, self.prompts, pooler)
        variants = [understood(vectors, saes) for vectors in self.variants]
        ready = _Ready(self, model, read, variants, opening, pooler, on_progress)
        return lambda batch: in_halves(ready.answer, batch, model, self.prompts, self.max_new_tokens)

    def encode(self, results: Sequence[Answers]) -> bytes:
        """A Parquet file with a row per prompt; silent features are left out."""
        columns: dict[str, list[Any]] = {"part": [], "prompt": [], "tokens": [], "leads": [], "class_logp": []}
        read = bool(results[0].pooled)
        columns |= {f"{name}_{nth}": [] for nth in range(len(self.pooled) * read) for name in ("feature", "value")}
        for part, found in enumerate(results):
            for place, prompt in enumerate(found.prompts):
                columns["part"].append(part)
                columns["prompt"].append(prompt)
                columns["tokens"].append(found.tokens[place])
                columns["leads"].append(found.leads[place].tolist())
                columns["class_logp"].append(found.class_logp[place].tolist() if found.class_logp else None)
                for nth, z in enumerate(found.pooled or []):
                    active = z[place].nonzero().flatten()
                    columns[f"feature_{nth}"].append(active.cpu().numpy().astype(np.int32))
                    columns[f"value_{nth}"].append(z[place, active].float().cpu().numpy())
        return as_parquet(pa.table(columns, schema=_schema(columns)))

    def decode(self, data: bytes) -> list[Answers]:
        """What `encode` wrote."""
        table = from_parquet(data)
        parts = sorted(set(table["part"].to_pylist()))
        return [self._part(table.filter(pa.compute.equal(table["part"], part))) for part in parts]

    def _part(self, table: pa.Table) -> Answers:
        rows = {name: table[name].to_pylist() for name in ("prompt", "tokens", "leads", "class_logp")}
        read = "feature_0" in table.column_names
        return Answers(
            prompts=rows["prompt"],
            tokens=rows["tokens"],
            pooled=[self._dense(table, nth) for nth in range(len(self.pooled))] if read else None,
            class_logp=[np.array(one, dtype=np.float64) for one in rows["class_logp"]] if self.classes else [],
            leads=np.array(rows["leads"], dtype=np.float64),
        )

    def _dense(self, table: pa.Table, nth: int) -> Tensor:
        """(prompts, d_sae) float32"""
        dense = torch.zeros(table.num_rows, self.pooled[nth].d_sae)
        for row, (features, values) in enumerate(zip(table[f"feature_{nth}"], table[f"value_{nth}"], strict=True)):
            if len(features):
                dense[row, torch.from_numpy(features.values.to_numpy().astype(np.int64))] = torch.from_numpy(
                    values.values.to_numpy().copy()
                )
        return dense


def _schema(columns: dict[str, list[Any]]) -> pa.Schema:
    kinds: dict[str, pa.DataType] = {
        "part": pa.int32(),
        "prompt": pa.int64(),
        "tokens": pa.list_(pa.list_(pa.int32())),
        "leads": pa.list_(pa.float64()),
        "class_logp": pa.list_(pa.list_(pa.float64())),
    }
    active = {"feature": pa.list_(pa.int32()), "value": pa.list_(pa.float32())}
    return pa.schema([(name, kinds.get(name) or active[name.partition("_")[0]]) for name in columns])


@dataclass(frozen=True)
class _Ready:
    """The work with a model, and what was read before the first batch."""

    work: AnswerWork
    model: Model
    saes: Sequence[Sae]
    """Whose features are read."""
    variants: Sequence[Vectors]
    opening: Opening | None
    opening_pooler: Pooler | None
    on_progress: Callable[[float], None]

    def answer(self, batch: list[int]) -> Answers:
        texts = [self.work.prompts[place] for place in batch]
        pooler = self._pooler(len(texts))
        prefix = prefill(self.model, texts, pooler, self.opening)
        tokens: list[list[list[int]]] = [[] for _ in texts]
        classes = [self.work.classes[place] for place in batch] if self.work.classes else []
        logp = [np.zeros((len(self.variants), len(of_prompt))) for of_prompt in classes]
        leads = np.zeros((len(texts), len(self.variants)))
        together = variants_that_fit(self.model, len(texts), prefix.places.shape[1], self.work.max_new_tokens)
        for start in range(0, len(self.variants), together):
            group = self.variants[start : start + together]
            steps = decode(
                self.model,
                prefix,
                max_new_tokens=self.work.max_new_tokens,
                variants=group,
                watch=pooler,
                choose=self.work.choose,
            )
            reporting = self._reporting(steps, len(texts), start, len(group))
            read = _reading_classes(reporting, classes, [of_prompt[start : start + len(group)] for of_prompt in logp])
            read = _reading_leads(read, leads[:, start : start + len(group)])
            rows = tokens_by_row(read, len(texts) * len(group))
            for place, of_prompt in enumerate(tokens):
                of_prompt += rows[place * len(group) : (place + 1) * len(group)]
        return Answers(list(batch), tokens, pooler.result() if pooler else None, logp, leads)

    def _reporting(self, steps: Iterator[Step], prompts: int, before: int, group: int) -> Iterator[Step]:
        """The steps of a group of variants, `before` of which are done; texts that end early make it go faster."""
        for step in steps:
            yield step
            self.on_progress(
                prompts * (before + group * (step.index + 1) / self.work.max_new_tokens) / len(self.variants)
            )

    def _pooler(self, rows: int) -> Pooler | None:
        if self.opening_pooler is None:
            return None
        return Pooler(self.model, self.saes, rows, self.work.pooling, start=self.opening_pooler.pooled)


def _reading_leads(steps: Iterator[Step], found: np.ndarray) -> Iterator[Step]:
    """The steps; from the first one's logits the likeliest token's lead over the next is read into `found`, (prompts, variants)."""
    for step in steps:
        if step.index == 0:
            best = step.logits.topk(2, dim=-1).values.float()
            found[:] = (best[:, 0] - best[:, 1]).cpu().numpy().reshape(found.shape)
        yield step


def _reading_classes(
    steps: Iterator[Step], classes: Sequence[ClassTokens], found: Sequence[np.ndarray]
) -> Iterator[Step]:
    """The steps; from the first one's logits the classes of each prompt are read into `found`, (variants, classes) each."""
    for step in steps:
        if classes and step.index == 0:
            variants = len(step.rows) // len(classes)
            for place, (of_prompt, kept) in enumerate(zip(classes, found, strict=True)):
                if of_prompt:
                    kept[:] = log_probabilities(step.logits[place * variants : (place + 1) * variants], of_prompt)
        yield step
