"""The unigram control: what a set does to words on average, added to the logits as one constant.

A set that makes a text sound glad may do no more than make glad words likelier, whatever stands before them. So its mean
push on every token of the vocabulary is measured once and added to the logits of the unsteered model at every generation
position, beside the other controls. A set that does no more than this constant does nothing that depends on the text.

The push of token w is the mean, over the validation samples, of log p(w) steered minus log p(w) unsteered at the first
generation position. The final norm, whose factor differs from sample to sample, and what later layers make of the vector
are in it as they are on average; nothing is scaled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.engine.batches import plan
from corrsteer_core.engine.generation import Vectors, decode, prefill, set_apart
from corrsteer_core.evaluation.trials import unsteered_and
from corrsteer_core.models.limits import in_halves, prompts_that_fit
from corrsteer_core.models.loading import Model


def pushes(
    model: Model,
    prompts: Sequence[Sequence[int]],
    vectors: Sequence[Vectors],
    progress: Progress = silent,
) -> list[Tensor]:
    """The push of each of some vectors on every token, (vocabulary,) float32 on the CPU, in nats; see the module.

    `prompts` are ids, at least one. A vector that adds nothing pushes by exactly 0. Out of memory halves the batch.
    """
    different, places = set_apart(unsteered_and(*vectors))
    summed: list[Tensor] = []
    done = 0

    def add(batch: list[int]) -> list[int]:
        prefix = prefill(model, [prompts[place] for place in batch])
        (step,) = decode(model, prefix, max_new_tokens=1, variants=different)
        changes = _changes(step.logits, len(different))
        summed[:] = [summed[0] + changes if summed else changes]
        return batch

    for batch in plan(prompts, prompts_that_fit(model, prompts, 1, len(different))):
        for part in in_halves(add, batch, model, prompts, 1):
            done += len(part)
            progress("measuring the push on words", done, len(prompts))
    mean = (summed[0] / len(prompts)).float()
    return [mean[place] for place in places[1:]]


@torch.inference_mode()
def _changes(logits: Tensor, variants: int) -> Tensor:
    """Summed over prompts, log p less that of the first variant: (variants, vocabulary) float64, on the CPU."""
    by_variant = logits.view(-1, variants, logits.shape[-1])
    before = by_variant[:, 0].float().log_softmax(-1)
    # One variant at a time: the vocabulary is wide. Apple's GPUs have no float64.
    rows = [(by_variant[:, place].float().log_softmax(-1) - before).sum(0).cpu() for place in range(variants)]
    return torch.stack(rows).double()
