"""Many prompts, many variants: batches that fit in memory, in an order that wastes little padding."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError, out_of_memory
from corrsteer_core.engine.choosing import Choose, greedy
from corrsteer_core.engine.class_probabilities import ClassTokens, log_probabilities
from corrsteer_core.engine.generation import (
    UNSTEERED,
    Opening,
    Step,
    Vectors,
    check_length,
    decode,
    prefill,
    read_opening,
    set_apart,
    tokens_by_row,
)
from corrsteer_core.engine.pooling import Pooler
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.poolings import DEFAULT_POOLING
from corrsteer_core.saes.sae import Sae

T = TypeVar("T")

MEMORY_SHARE = 0.25  # of the memory beside the model, for keys and values, and as much for logits


@dataclass(frozen=True)
class Limits:
    """Where larger batches bring nothing more: a CPU is busy with few, and a batch is a step of progress."""

    prompts: int
    """Read together."""
    rows: int
    """Decoded together."""
    tokens: int
    """Whose keys and values are held."""


LIMITS = {"cpu": Limits(64, 256, 4096), "mps": Limits(64, 256, 1 << 16)}
ELSEWHERE = Limits(256, 1024, 1 << 20)
FEWEST = 4  # prompts read together, however many variants each has


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


def answers(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    variants: Sequence[Vectors] = (UNSTEERED,),
    saes: Sequence[Sae] = (),
    pooling: str = DEFAULT_POOLING,
    batch_size: int | None = None,
    choose: Choose = greedy,
    skip: frozenset[int] = frozenset(),
    classes: Sequence[ClassTokens] = (),
    on_progress: Callable[[float], None] = lambda prompts: None,
) -> Iterator[Answers]:
    """Answer every prompt under every variant, batch by batch, longest prompts first.

    After every token `on_progress` is called with how far the batch at hand is, in prompts; raising there ends the work.

    With `saes`, features are pooled (one variant only). What all prompts begin with is read once. Which
    prompts share a batch depends on the prompts and `batch_size` alone (see `plan`), so that leaving
    some out (`skip`, places in the list; only whole batches are left out) changes no number of the
    others. Out of memory halves the batch. Variants that add nothing are decoded once (see `set_apart`). `classes`, one entry a
    prompt, asks for log-probabilities of classes too.
    """
    if not prompts:
        return
    check_length(model, prompts, max_new_tokens)
    different, places = set_apart(variants)
    size = batch_size or prompts_that_fit(model, prompts, max_new_tokens, len(different))
    batches = [batch for batch in plan(prompts, size, max_new_tokens) if not skip.issuperset(batch)]
    if not batches:
        return
    pooler = Pooler(model, saes, 1, pooling) if saes else None
    opening = read_opening(model, prompts, pooler)
    work = _Work(
        model, prompts, max_new_tokens, different, saes, pooling, choose, opening, pooler, on_progress, classes
    )
    for batch in batches:
        for found in work.answered(batch):
            tokens = [[of_prompt[place] for place in places] for of_prompt in found.tokens]
            yield replace(found, tokens=tokens, class_logp=[likely[places] for likely in found.class_logp])


def plan(prompts: Sequence[Sequence[int]], batch_size: int, max_new_tokens: int = 0) -> list[list[int]]:
    """Places of the prompts in batches of like length, the longest first (what does not fit shows at once).

    The first batch has `batch_size` prompts; later ones as many as take no more tokens, up to twice that.
    """
    order = sorted(range(len(prompts)), key=lambda place: (-len(prompts[place]), place))
    batches: list[list[int]] = []
    while order:
        longest = len(prompts[order[0]]) + max_new_tokens
        budget = batch_size * (len(prompts[batches[0][0]]) + max_new_tokens) if batches else batch_size * longest
        size = min(budget // longest, 2 * batch_size)
        batches.append(order[:size])
        order = order[size:]
    return batches


def prompts_that_fit(model: Model, prompts: Sequence[Sequence[int]], max_new_tokens: int, variants: int = 1) -> int:
    """Prompts per batch: as many as memory holds, up to where more bring nothing."""
    limits = _limits(model)
    longest = max(len(prompt) for prompt in prompts)
    fitting = min(limits.prompts, limits.tokens // (longest + max_new_tokens), max(FEWEST, limits.rows // variants))
    return max(1, fitting)


def variants_that_fit(model: Model, prompts: int, length: int, max_new_tokens: int) -> int:
    """Variants decoded together, of so many prompts of at most `length` tokens: all see the keys of all steps."""
    limits = _limits(model)
    return max(1, min(limits.rows // prompts, (limits.tokens // prompts - length) // max_new_tokens))


def rows_that_fit(model: Model, length: int) -> int:
    """Rows of at most `length` tokens, prompt and answer, whose keys and values are held at once."""
    limits = _limits(model)
    return max(1, min(limits.rows, limits.tokens // max(1, length)))


def _limits(model: Model) -> Limits:
    """The device's limits, or less where a share of the memory beside the model holds less.

    Not of what is free at the moment: in bfloat16 a number depends a little on what is computed beside it, so the same
    work is to be cut in the same way whatever else goes on. Where memory does not hold a batch, it is halved.
    """
    config = model.text_config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = model.width("attn_z") // config.num_attention_heads
    size = model.dtype.itemsize
    # Growing the cache holds it twice for a moment, and so do sums over logits (float32).
    token = 2 * 2 * config.num_hidden_layers * heads * width * size
    row = config.vocab_size * 2 * 4
    share = MEMORY_SHARE * max(0, _memory(model.device) - _weights(model))
    most = LIMITS.get(model.device.type, ELSEWHERE)
    return Limits(most.prompts, min(most.rows, int(share / row)), min(most.tokens, int(share / token)))


def _memory(device: torch.device) -> int:
    """Bytes that a device has in all."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total


def _weights(model: Model) -> int:
    """Bytes of the model's weights on its device; those that are fetched when needed take none."""
    here = (weight for weight in model.net.parameters() if weight.device == model.device)
    return sum(weight.numel() * weight.element_size() for weight in here)


def in_halves(
    do: Callable[[list[int]], T], batch: list[int], model: Model, prompts: Sequence[Sequence[int]], tokens: int
) -> Iterator[T]:
    """What `do` makes of a batch (places of prompts), part by part: in halves where memory does not hold it.

    `tokens` is the longest answer's length. Raises CorrSteerError for a prompt that does not fit even alone.
    """
    try:
        yield do(batch)
        return
    except Exception as error:
        if not out_of_memory(error):
            raise
        if len(batch) == 1:
            raise CorrSteerError(
                f"A prompt of {len(prompts[batch[0]])} tokens with answers of {tokens} does not fit in the memory of "
                f"{model.device}, even alone; shorten it, ask for fewer tokens, or name another --device."
            ) from error
        logging.getLogger(__name__).warning("out of memory with %d prompts; going on with half", len(batch))
    _let_go(model.device)  # here, where no traceback holds the failed batch's tensors any more
    half = len(batch) // 2
    for part in (batch[:half], batch[half:]):
        yield from in_halves(do, part, model, prompts, tokens)


def _let_go(device: torch.device) -> None:
    """Give back what PyTorch keeps on a device and does not use."""
    if device.type == "mps":
        torch.mps.empty_cache()
    else:
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class _Work:
    """What is asked of every batch, and what was read before the first."""

    model: Model
    prompts: Sequence[Sequence[int]]
    max_new_tokens: int
    variants: Sequence[Vectors]
    saes: Sequence[Sae]
    pooling: str
    choose: Choose
    opening: Opening | None
    opening_pooler: Pooler | None
    on_progress: Callable[[float], None]
    classes: Sequence[ClassTokens] = ()

    def answered(self, batch: list[int]) -> Iterator[Answers]:
        """The answers to a batch, in halves where memory does not hold it."""
        yield from in_halves(self._answer, batch, self.model, self.prompts, self.max_new_tokens)

    def _answer(self, batch: list[int]) -> Answers:
        texts = [self.prompts[place] for place in batch]
        pooler = self._pooler(len(texts))
        prefix = prefill(self.model, texts, pooler, self.opening)
        tokens: list[list[list[int]]] = [[] for _ in texts]
        classes = [self.classes[place] for place in batch] if self.classes else []
        logp = [np.zeros((len(self.variants), len(of_prompt))) for of_prompt in classes]
        together = variants_that_fit(self.model, len(texts), prefix.places.shape[1], self.max_new_tokens)
        for start in range(0, len(self.variants), together):
            group = self.variants[start : start + together]
            steps = decode(
                self.model,
                prefix,
                max_new_tokens=self.max_new_tokens,
                variants=group,
                watch=pooler,
                choose=self.choose,
            )
            reporting = self._reporting(steps, len(texts), start, len(group))
            read = _reading_classes(reporting, classes, [of_prompt[start : start + len(group)] for of_prompt in logp])
            rows = tokens_by_row(read, len(texts) * len(group))
            for place, of_prompt in enumerate(tokens):
                of_prompt += rows[place * len(group) : (place + 1) * len(group)]
        return Answers(list(batch), tokens, pooler.result() if pooler else None, logp)

    def _reporting(self, steps: Iterator[Step], prompts: int, before: int, group: int) -> Iterator[Step]:
        """The steps of a group of variants, `before` of which are done; texts that end early make it go faster."""
        for step in steps:
            yield step
            self.on_progress(prompts * (before + group * (step.index + 1) / self.max_new_tokens) / len(self.variants))

    def _pooler(self, rows: int) -> Pooler | None:
        if self.opening_pooler is None:
            return None
        return Pooler(self.model, self.saes, rows, self.pooling, start=self.opening_pooler.pooled)


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
