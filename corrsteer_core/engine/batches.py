"""Many prompts, many variants: batches that fit in memory, in an order that wastes little padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from corrsteer_core.engine.answer_work import Answers, AnswerWork
from corrsteer_core.engine.choosing import Choose, greedy
from corrsteer_core.engine.class_probabilities import ClassTokens
from corrsteer_core.engine.generation import UNSTEERED, check_length, set_apart
from corrsteer_core.engine.operations import Vectors, saes_read, told
from corrsteer_core.models.limits import prompts_that_fit
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.poolings import DEFAULT_POOLING
from corrsteer_core.saes.sae import Sae, ref_of
from corrsteer_core.workers.pool import done


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
    skip: frozenset[int] | set[int] = frozenset(),
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
    batches = plan(prompts, size, max_new_tokens)
    left = [number for number, batch in enumerate(batches) if not skip.issuperset(batch)]
    if not left:
        return
    pooled = tuple(ref_of(sae) for sae in saes)
    work = AnswerWork(
        prompts, max_new_tokens, [told(vectors) for vectors in different], pooling, pooled, classes, choose
    )
    taken = [*saes, *(sae for vectors in different for sae in saes_read(vectors))]
    # Workers answer greedily: what is drawn at random depends on what was drawn before. They load one SAE a layer.
    layers = [ref.layer for ref in work.sae_refs]
    here = choose is not greedy or len(set(layers)) < len(layers)
    for found in done(model, taken, work, batches, on_progress, only=left, here=here):
        tokens = [[of_prompt[place] for place in places] for of_prompt in found.tokens]
        likely = [of_prompt[places] for of_prompt in found.class_logp]
        yield replace(found, tokens=tokens, class_logp=likely, leads=found.leads[:, places])


def plan(prompts: Sequence[Sequence[int]], batch_size: int, max_new_tokens: int = 0) -> list[list[int]]:
    """Places of the prompts in batches of like length, the longest first (what does not fit shows at once).

    The first batch has `batch_size` prompts; later ones as many as take no more tokens, up to twice that.
    """
    lengths = np.fromiter(map(len, prompts), dtype=np.int64, count=len(prompts)) + max_new_tokens
    order = np.argsort(-lengths, kind="stable")
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        budget = batch_size * lengths[order[0]]
        size = int(min(budget // lengths[order[start]], 2 * batch_size))
        batches.append(order[start : start + size].tolist())
        start += size
    return batches
