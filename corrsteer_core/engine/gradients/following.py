"""What a vector added where steering adds would change, to first order: one backward pass per sample.

A zero vector is added at a sample's generation positions, at every hook point at once; the gradient with respect to it says
how a small steering vector moves what is measured (`method.prediction`). The prompt before its last token is
never steered: it is read once without gradients, and the backward pass goes through generation positions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from corrsteer_core.engine.batches import plan
from corrsteer_core.engine.class_probabilities import ClassTokens
from corrsteer_core.engine.continuing import forced
from corrsteer_core.engine.generation import Opening, Prefix, check_length, prefill, read_opening
from corrsteer_core.models.hooks import Action, HookPoint, hooked
from corrsteer_core.models.limits import in_halves, prompts_that_fit
from corrsteer_core.models.loading import Model

T = TypeVar("T")

POSITIONS = 512
"""Generation positions followed at once: what a backward pass needs of each is kept (1 to 5 MB a position)."""
LOGITS_BYTES = 2**29
"""Logits held at once, with their log-probabilities and gradients."""

Gradients = Mapping[HookPoint, Tensor]


@dataclass(frozen=True)
class Answer:
    """What a sample was answered with."""

    tokens: tuple[int, ...]
    """Without an end token."""
    ended: bool
    """Whether an end token followed."""

    @property
    def positions(self) -> int:
        """Generation positions: one for each token, and one for the end."""
        return len(self.tokens) + self.ended


def answer_of(model: Model, text: str, tokens: int, most: int) -> tuple[Answer, bool]:
    """The answer that a stored text is, of so many tokens (the end token included) of at most `most`; whether surely so.

    A run keeps texts, not tokens: they are cut again. Special tokens are not in the text, and a tokenizer may cut a text
    otherwise than the model wrote it; where the number of tokens shows that, the answer is taken as inexact.
    """
    ids = tuple(model.tokenizer.encode(text, add_special_tokens=False))
    if len(ids) + 1 == tokens:
        return Answer(ids, True), True
    if len(ids) == tokens == most:
        return Answer(ids, False), True
    return Answer(ids[:most], tokens < most or not ids), False


@dataclass(frozen=True)
class ClassGradients:
    """Of one batch of prompts whose answer is one of K classes; K is the batch's largest."""

    prompts: list[int]
    """Places in the list that was asked."""
    probabilities: Tensor
    """(prompts, K) float32: of each class among the classes; 0 for those that a prompt does not have."""
    margins: Gradients
    """(prompts, K, d) float32, on the CPU: of l_k - l_0, l the log-probabilities; 0 for class 0 and for those not had."""

    def success(self, right: Sequence[int]) -> dict[HookPoint, Tensor]:
        """Gradients (prompts, d) of the probability of the right class of each prompt, among its classes."""
        p, rows = self.probabilities, torch.arange(len(self.prompts))
        chosen = torch.tensor(list(right))
        found = {}
        for point, margins in self.margins.items():  # of log p_y: l_y minus the mean of l weighted by p
            of_log = margins[rows, chosen] - (p[..., None] * margins).sum(1)
            found[point] = p[rows, chosen][:, None] * of_log
        return found


@dataclass(frozen=True)
class AnswerGradients:
    """Of one batch of prompts with their answers."""

    prompts: list[int]
    logp: Tensor
    """(prompts,) float32: log-probability of the answer, its end included."""
    gradients: Gradients
    """(prompts, d) float32, on the CPU: of that log-probability."""


def class_gradients(
    model: Model, points: Sequence[HookPoint], prompts: Sequence[Sequence[int]], classes: Sequence[ClassTokens]
) -> Callable[[list[int]], Iterator[ClassGradients]]:
    """What follows gradients of class margins at the first generation position; `classes` holds each prompt's tokens.

    A batch (places of prompts, see `planned`) comes back in parts where memory does not hold it. The class without tokens,
    if there is one, is that of all other tokens. Costs a forward pass and K - 1 backward passes through the last prompt
    token alone.
    """

    def follow(batch: list[int], prefix: Prefix) -> ClassGradients:
        return _of_classes(model, points, prefix, batch, [classes[place] for place in batch])

    return _in_batches(model, prompts, 1, follow)


def answer_gradients(
    model: Model, points: Sequence[HookPoint], prompts: Sequence[Sequence[int]], answers: Sequence[Answer]
) -> Callable[[list[int]], Iterator[AnswerGradients]]:
    """What follows gradients of the log-probability of each prompt's answer; none of the answers is empty.

    A batch (see `planned`) comes back in parts where memory does not hold it. That a text ended counts as one of its
    tokens, whichever of the model's end tokens ended it.
    """

    def follow(batch: list[int], prefix: Prefix) -> AnswerGradients:
        return _of_answers(model, points, prefix, batch, [answers[place] for place in batch])

    return _in_batches(model, prompts, longest_of(answers), follow)


def longest_of(answers: Sequence[Answer]) -> int:
    """The most generation positions that an answer has."""
    return max((answer.positions for answer in answers), default=1)


def planned(
    model: Model, prompts: Sequence[Sequence[int]], positions: int = 1, batch_size: int | None = None
) -> list[list[int]]:
    """Places of prompts in the batches in which so many generation positions of each are followed at once.

    Raises CorrSteerError for a prompt that is too long.
    """
    if not prompts:
        return []
    check_length(model, prompts, positions)
    return plan(prompts, batch_size or _together(model, prompts, positions), positions)


def _in_batches(
    model: Model, prompts: Sequence[Sequence[int]], positions: int, follow: Callable[[list[int], Prefix], T]
) -> Callable[[list[int]], Iterator[T]]:
    """What `follow` makes of a batch and its prefix, in halves where memory does not hold it."""
    opening: Opening | None = read_opening(model, prompts)

    def do(batch: list[int]) -> T:
        return follow(batch, prefill(model, [prompts[place] for place in batch], opening=opening))

    return lambda batch: in_halves(do, batch, model, prompts, positions)


def _together(model: Model, prompts: Sequence[Sequence[int]], positions: int) -> int:
    """Prompts whose generation positions are followed at once."""
    logits = LOGITS_BYTES // (12 * positions * model.text_config.vocab_size)
    return max(1, min(prompts_that_fit(model, prompts, positions), POSITIONS // positions, logits))


def _of_classes(
    model: Model, points: Sequence[HookPoint], prefix: Prefix, batch: list[int], classes: Sequence[ClassTokens]
) -> ClassGradients:
    """`class_gradients` of one batch: the classes' margins one by one, each for all prompts at once."""
    with torch.inference_mode(False), torch.enable_grad():
        leaves, logits = _followed(model, points, prefix, [(0,)] * len(batch))
        logp = [_class_logits(row, of_prompt) for row, of_prompt in zip(logits[:, 0].float(), classes, strict=True)]
        most = max(map(len, logp))
        margins = {
            point: torch.zeros(len(batch), most, leaf.shape[-1]) for point, leaf in zip(points, leaves, strict=True)
        }
        for k in range(1, most):
            total = torch.stack([row[k] - row[0] for row in logp if k < len(row)]).sum()
            for point, found in zip(points, torch.autograd.grad(total, leaves, retain_graph=k + 1 < most), strict=True):
                margins[point][:, k] = found.cpu()
    probabilities = torch.zeros(len(batch), most)
    for place, row in enumerate(logp):
        probabilities[place, : len(row)] = row.detach().softmax(-1).cpu()
    return ClassGradients(batch, probabilities, margins)


def _class_logits(logits: Tensor, classes: ClassTokens) -> Tensor:
    """Log of the summed exponentials of each class's logits, (classes,): log-probabilities but for a common term."""
    named = [token for ids in classes for token in ids]
    rest = torch.ones_like(logits, dtype=torch.bool)
    rest[named] = False
    return torch.stack([logits[list(ids) if ids else rest].logsumexp(-1) for ids in classes])


def _of_answers(
    model: Model, points: Sequence[HookPoint], prefix: Prefix, batch: list[int], answers: Sequence[Answer]
) -> AnswerGradients:
    """`answer_gradients` of one batch."""
    ends = sorted(model.end_tokens)
    ids = [answer.tokens + tuple(ends[:1]) * answer.ended for answer in answers]
    with torch.inference_mode(False), torch.enable_grad():
        leaves, logits = _followed(model, points, prefix, ids)
        logp = logits.float().log_softmax(-1)
        rows = []
        for of_row, answer in zip(logp, answers, strict=True):
            said = of_row[range(len(answer.tokens)), list(answer.tokens)].sum()
            rows.append(said + of_row[len(answer.tokens), ends].logsumexp(-1) if answer.ended else said)
        total = torch.stack(rows)
        found = torch.autograd.grad(total.sum(), leaves)
    gradients = {point: gradient.cpu() for point, gradient in zip(points, found, strict=True)}
    return AnswerGradients(batch, total.detach().cpu(), gradients)


def _followed(
    model: Model, points: Sequence[HookPoint], prefix: Prefix, outputs: Sequence[Sequence[int]]
) -> tuple[list[Tensor], Tensor]:
    """Zero vectors (rows, d), float32, one for each hook point, and the logits of a pass in which they are added.

    All positions of that pass are generation positions (see `forced`), so a vector is added at every one.
    """
    leaves = [
        torch.zeros(len(outputs), model.width(point.kind), device=model.device_of(point), requires_grad=True)
        for point in points
    ]

    def adding(leaf: Tensor) -> Action:
        return lambda activation: activation + leaf[:, None].to(activation.device, activation.dtype)

    actions = {model.site(point): adding(leaf) for point, leaf in zip(points, leaves, strict=True)}
    with hooked(actions):
        return leaves, forced(model, prefix, range(len(outputs)), outputs)
