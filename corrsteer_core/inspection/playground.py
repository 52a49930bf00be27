"""The playground: one prompt answered unsteered and steered, text by text as it grows.

The same prompt function, the same decoding and the same end of an answer as everywhere else, so that
the last texts equal those of `pipeline.side_by_side`.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.choosing import Choose, greedy
from corrsteer_core.engine.generation import check_length, decode, prefill, set_apart
from corrsteer_core.engine.operations import Vectors
from corrsteer_core.engine.steering import check_model, model_of, variant_of
from corrsteer_core.evaluation.trials import unsteered_and
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import Message, answer_text, render
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.saes.named_saes import saes_of
from corrsteer_core.saes.sae import Sae

_UNFINISHED = "\ufffd"
"""What a tokenizer writes for a character of which some bytes are still to come."""


def stream(
    model: Model,
    saes: Sequence[Sae],
    steering: SteeringSet,
    prompt: str | Sequence[Message],
    *,
    steered_prompt: str | Sequence[Message] | None = None,
    scales: Sequence[float] = (),
    max_new_tokens: int = 60,
    choose: Choose = greedy,
    written: list[list[int]] | None = None,
) -> Generator[tuple[str, ...], None, None]:
    """Answer a prompt, yielding all texts after every step: the unsteered one first, then one for each scale.

    Without `scales`, at the set's own. All are rows of one batch and cost little more than one, unless the
    steered texts answer a `steered_prompt` of their own (a chat that went on with steered answers): that is a
    second batch. The last texts yielded are the whole answers; `written`, a list, is filled with their token
    ids. Closing the iterator stops the work; no hook is on the model between two texts. Raises CorrSteerError
    for a set of another model or SAE, an empty prompt or one that does not fit.
    """
    check_model(steering, model)
    sets = [replace(steering, scale=scale) for scale in scales] or [steering]
    variants = unsteered_and(*(variant_of(one, saes) for one in sets))
    own = render(model, prompt, steering.style)
    other = own if steered_prompt is None else render(model, steered_prompt, steering.style)
    check_length(model, [own, other], max_new_tokens)
    tokens = [] if written is None else written
    tokens.clear()
    batches = [(own, variants)] if own == other else [(own, variants[:1]), (other, variants[1:])]
    steps = [_writing(model, ids, rows, tokens, max_new_tokens, choose) for ids, rows in batches]
    for _ in itertools.zip_longest(*steps):
        yield tuple(_growing(model, row, max_new_tokens) for row in tokens)


def _writing(
    model: Model, ids: list[int], variants: list[Vectors], tokens: list[list[int]], max_new_tokens: int, choose: Choose
) -> Iterator[None]:
    """Answer one prompt, adding a list of token ids for each variant to `tokens`; they grow at every step."""
    variants, places = set_apart(variants)
    decoded: list[list[int]] = [[] for _ in variants]
    tokens += [decoded[place] for place in places]
    for step in decode(model, prefill(model, [ids]), max_new_tokens=max_new_tokens, variants=variants, choose=choose):
        for row, token, alive in zip(step.rows.tolist(), step.tokens.tolist(), step.alive.tolist(), strict=True):
            if alive:
                decoded[row].append(token)
        yield


def _growing(model: Model, tokens: Sequence[int], max_new_tokens: int) -> str:
    """The text so far, without the beginning of a character whose other bytes may still come."""
    text = answer_text(model, tokens)
    ended = len(tokens) == max_new_tokens or tokens[-1] in model.end_tokens
    return text if ended else text.rstrip(_UNFINISHED)


def side_by_side(
    steering: SteeringSet,
    prompt: str | list[dict[str, str]],
    *,
    scale: float | None = None,
    max_new_tokens: int = 60,
    model: Model | None = None,
    saes: Sequence[Sae] | None = None,
    choose: Choose = greedy,
) -> tuple[str, str]:
    """The unsteered and the steered answer to one prompt, decoded together from one reading of it."""
    model = model or model_of(steering)
    check_model(steering, model)
    steering = steering if scale is None else replace(steering, scale=scale)
    vectors = variant_of(steering, saes or saes_of(steering.saes, model))
    ids = render(model, prompt, steering.style)
    (batch,) = answers(
        model, [ids], max_new_tokens=max_new_tokens, variants=unsteered_and(vectors), batch_size=1, choose=choose
    )
    unsteered, steered = (answer_text(model, tokens) for tokens in batch.tokens[0])
    return unsteered, steered
