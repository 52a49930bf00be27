"""A generated text token by token: how probable each was without and with the steering vectors, and how far the two differ.

Both distributions are of the same next token after the same words: prompt and text so far, read once
without any vector and once with the vectors at every generation position (the last prompt token and
the generated tokens before), as in generation. Probabilities are the model's own, at temperature 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.engine.generation import Vectors
from corrsteer_core.engine.operations import acting, constant_part
from corrsteer_core.models.hooks import Action, hooked, together
from corrsteer_core.models.loading import Model

ALTERNATIVES = 5
TOGETHER = 32
"""Tokens whose distributions are in memory at a time: of a vocabulary of 256,000, half a gigabyte."""


@dataclass(frozen=True)
class Choice:
    """A token that could have come next."""

    token: int
    text: str
    probability: float


@dataclass(frozen=True)
class TokenStep:
    """One generated token, seen by both."""

    token: int
    text: str
    unsteered: float
    """Its probability without the vectors."""
    steered: float
    """Its probability with them."""
    kl: float
    """KL(steered || unsteered) of the next-token distributions here, over the whole vocabulary, in nats."""
    unsteered_choices: tuple[Choice, ...]
    """The most probable tokens without the vectors, best first."""
    steered_choices: tuple[Choice, ...]


@torch.inference_mode()
def steps(
    model: Model, vectors: Vectors, prompt: Sequence[int], answer: Sequence[int], progress: Progress = silent
) -> list[TokenStep]:
    """Every token of an answer (ids, an end token included) to a prompt, whoever of the two wrote it.

    No hook is on the model where `progress` is called. Raises CorrSteerError for an empty prompt.
    """
    if not prompt:
        raise CorrSteerError("The prompt has no tokens; there is nothing to look at.")
    if not answer:
        return []
    hidden = _hidden(model, vectors, prompt, answer)
    found: list[TokenStep] = []
    for start in range(0, len(answer), TOGETHER):
        progress("comparing probabilities", start, len(answer))
        stop = start + TOGETHER
        found += _compared(model, hidden[:, start:stop], answer[start:stop])
    return found


def _compared(model: Model, hidden: Tensor, answer: Sequence[int]) -> list[TokenStep]:
    """Some tokens of an answer, from the hidden states that predict them."""
    # Double precision on the CPU: not every device has it.
    unsteered, steered = _logits(model, hidden).cpu().double().log_softmax(-1)  # (tokens, vocabulary) each
    kl = (steered.exp() * (steered - unsteered)).nan_to_num(0.0).sum(-1)  # a token of probability 0 adds nothing
    best = [_best(model, one, ALTERNATIVES) for one in (unsteered, steered)]
    return [
        TokenStep(
            token,
            token_text(model, token),
            unsteered[place, token].exp().item(),
            steered[place, token].exp().item(),
            max(kl[place].item(), 0.0),
            best[0][place],
            best[1][place],
        )
        for place, token in enumerate(answer)
    ]


def parts_at(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Index of the first token in which two texts differ, or where one of them ends; None if they are equal."""
    if list(one) == list(other):
        return None
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def token_text(model: Model, token: int) -> str:
    """A token as text; a special one by its name."""
    return model.tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _hidden(model: Model, vectors: Vectors, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """The hidden states that predict each token of the answer, unsteered and steered: (2, tokens, d_model).

    Both in one pass: the text twice, vectors added to its second copy from the last prompt token on.
    """
    ids = torch.tensor([[*prompt, *answer[:-1]]] * 2, device=model.device)
    first = len(prompt) - 1

    def adding(vector: Tensor) -> Action:
        def action(activation: Tensor) -> Tensor:
            activation = activation.clone()
            activation[1, first:] += vector.to(activation.device, activation.dtype)
            return activation

        return action

    constants = {model.site(point): adding(vector) for point, vector in constant_part(vectors).items()}
    steps = torch.arange(ids.shape[1] - first, device=model.device)
    with hooked(together(acting(model, vectors, (1, slice(first, None)), steps), constants)):
        return model.net.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, first:]


def _logits(model: Model, hidden: Tensor) -> Tensor:
    """What the model makes of its last hidden states; some (Gemma 2) bound their logits by a soft cap."""
    logits = model.net.get_output_embeddings()(hidden)
    cap = getattr(model.text_config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _best(model: Model, logp: Tensor, count: int) -> list[tuple[Choice, ...]]:
    top = logp.topk(min(count, logp.shape[-1]), -1)
    return [
        tuple(
            Choice(token, token_text(model, token), value)
            for token, value in zip(of.tolist(), values.exp().tolist(), strict=True)
        )
        for of, values in zip(top.indices, top.values, strict=True)
    ]
