"""The one generation loop: prompts are read once, and every variant of them is decoded from there.

Steering and pooling act at generation positions only: the last prompt token, then every generated
token except the last one. So every variant of a prompt (unsteered, or steered one way or another)
shares the keys and values of all prompt tokens before the last. `prefill` computes those once,
`decode` expands them to one row per (prompt, variant) and goes on from the last prompt token.

Rows are ordered prompt by prompt: row = prompt * number of variants + variant.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from corrsteer_core.errors import CorrSteerError
from corrsteer_core.hooks import Action, HookPoint, Site, hooked
from corrsteer_core.models import Model

Vectors = Mapping[HookPoint, Tensor]
"""One variant's steering: what is added at each hook point, (d,) each. Empty: unsteered."""

UNSTEERED: Vectors = {}

Choose = Callable[[Tensor, int], Tensor]
"""Picks the next token of each row from logits (rows, vocabulary) at a step: (rows,)."""


class Watch(Protocol):
    """Something that looks at activations while the model runs (see capture.py)."""

    def prompt_actions(self, mask: Tensor) -> dict[Site, Action]:
        """Actions for reading the prompt without its last token; `mask` (prompts, positions) is 1 at real tokens."""

    def step_actions(self, rows: Tensor, alive: Tensor) -> dict[Site, Action]:
        """Actions for one generation position of these rows; rows that are not alive have ended already."""

    def step_done(self) -> None:
        """Called after every step."""


@dataclass
class Prefix:
    """Prompts read up to their last token: left-padded, with keys and values."""

    cache: object
    mask: Tensor  # (prompts, positions) of 0 and 1, the last prompt token included
    last: Tensor  # (prompts,) ids of the last prompt tokens


@dataclass
class Step:
    """One decoded position of the rows still in the batch."""

    index: int
    rows: Tensor  # (n,) original row numbers
    tokens: Tensor  # (n,) chosen ids
    alive: Tensor  # (n,) false for rows that had ended before this step
    logits: Tensor  # (n, vocabulary)


def greedy(logits: Tensor, step: int) -> Tensor:
    """The most probable token of each row."""
    return logits.argmax(-1)


def sampled(temperature: float, seed: int) -> Choose:
    """Sampling with the same random numbers for every row, so that variants differ only by their steering.

    Adds Gumbel noise to logits / temperature and takes the largest, which samples from the softmax.
    """
    if temperature <= 0:
        return greedy

    def choose(logits: Tensor, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        noise = -torch.log(-torch.log(torch.rand(logits.shape[-1], generator=generator).clamp_min(1e-20)))
        return (logits.float() / temperature + noise.to(logits.device)).argmax(-1)

    return choose


def constrained(allowed: Sequence[int]) -> Choose:
    """The most probable of a few tokens (constrained decoding, for multiple choice)."""

    def choose(logits: Tensor, step: int) -> Tensor:
        ids = torch.tensor(list(allowed), device=logits.device)
        return ids[logits[:, ids].argmax(-1)]

    return choose


@torch.inference_mode()
def prefill(model: Model, prompts: Sequence[Sequence[int]], watch: Watch | None = None) -> Prefix:
    """Read all prompt tokens but the last, unsteered. Prompts are lists of token ids, none empty."""
    from transformers import DynamicCache

    width = max(len(prompt) for prompt in prompts)
    pad = next(iter(model.end_tokens), 0)
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    cache = DynamicCache(config=model.text_config)
    if width > 1:
        with hooked(watch.prompt_actions(mask[:, :-1]) if watch else {}):
            # The base model: no logits are needed for the prompt, and the vocabulary is wide.
            model.net.base_model(
                input_ids=ids[:, :-1],
                attention_mask=mask[:, :-1],
                position_ids=_positions(mask[:, :-1]),
                past_key_values=cache,
                use_cache=True,
            )
    return Prefix(cache, mask, ids[:, -1])


def decode(
    model: Model,
    prefix: Prefix,
    *,
    max_new_tokens: int,
    variants: Sequence[Vectors] = (UNSTEERED,),
    watch: Watch | None = None,
    choose: Choose = greedy,
) -> Iterator[Step]:
    """Generate from a prefix, one row per (prompt, variant), yielding each step as it is taken.

    A row ends with any of the model's end tokens (which is yielded) or after `max_new_tokens`.
    The prefix is left as it was and can be decoded again. No hook is on the model between steps.
    """
    n = len(variants)
    cache = _expanded(prefix.cache, n)
    mask = prefix.mask.repeat_interleave(n, 0)
    tokens = prefix.last.repeat_interleave(n, 0)
    rows = torch.arange(len(tokens), device=tokens.device)
    alive = torch.ones_like(rows, dtype=torch.bool)
    steering = _Steering(model, variants)
    ends = torch.tensor(sorted(model.end_tokens), device=tokens.device)
    # Asking the device whether rows have ended makes the host wait for it; on a CPU that is free.
    ask_every = 1 if tokens.device.type == "cpu" else 8

    for index in range(max_new_tokens):
        actions = _both(watch.step_actions(rows, alive) if watch else {}, steering.actions(rows))
        with torch.inference_mode(), hooked(actions):
            logits = model.net(
                input_ids=tokens[:, None],
                attention_mask=mask,
                position_ids=_positions(mask)[:, -1:],
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
            tokens = choose(logits, index).to(rows.device)
        if watch:
            watch.step_done()
        yield Step(index, rows, tokens, alive, logits)
        with torch.inference_mode():
            alive = alive & ~torch.isin(tokens, ends)
            if (index + 1) % ask_every == 0 and index + 1 < max_new_tokens:
                keep = alive.nonzero().flatten()
                if len(keep) == 0:
                    return
                if len(keep) < 0.8 * len(alive):  # ended rows leave; copying the cache for one is not worth it
                    cache.batch_select_indices(keep)
                    rows, tokens, mask, alive = rows[keep], tokens[keep], mask[keep], alive[keep]
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)


def continued(model: Model, prefix: Prefix, rows: Sequence[int], outputs: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities (rows, longest output), float32, of given outputs after a prefix, unsteered, in one pass.

    `rows` names the prompt of each output. What lies beyond the end of a shorter output means nothing.
    """
    chosen = torch.tensor(list(rows), device=prefix.last.device)
    steps = max(map(len, outputs))
    ids = torch.zeros(len(outputs), steps, dtype=torch.long)
    for row, output in enumerate(outputs):
        ids[row, : len(output)] = torch.tensor(list(output))
    ids = ids.to(prefix.last.device)
    cache = _expanded(prefix.cache, 1)
    for layer in cache.layers:
        if getattr(layer, "is_initialized", True):
            layer.batch_select_indices(chosen)
    # Later tokens are hidden from earlier ones by causality, so padding on the right needs no mask.
    mask = torch.cat([prefix.mask[chosen], torch.ones_like(ids[:, 1:])], 1)
    logits = model.net(
        input_ids=torch.cat([prefix.last[chosen][:, None], ids[:, :-1]], 1),
        attention_mask=mask,
        position_ids=_positions(mask)[:, -steps:],
        past_key_values=cache,
        use_cache=True,
    ).logits
    return logits.float().log_softmax(-1).gather(-1, ids[..., None].to(logits.device))[..., 0]


def tokens_by_row(steps: Iterator[Step], n_rows: int) -> list[list[int]]:
    """Drain the steps: the generated ids of each row, its end token included."""
    kept = [(step.rows, step.tokens, step.alive) for step in steps]
    out: list[list[int]] = [[] for _ in range(n_rows)]
    for rows, tokens, alive in kept:
        for row, token, lives in zip(rows.tolist(), tokens.tolist(), alive.tolist(), strict=True):
            if lives:
                out[row].append(token)
    return out


def check_length(model: Model, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Raise CorrSteerError when prompt and answer do not fit the model's context."""
    if max_new_tokens < 1:
        raise CorrSteerError(f"{max_new_tokens} new tokens were asked for; ask for at least 1.")
    limit = getattr(model.text_config, "max_position_embeddings", None)
    longest = max(len(prompt) for prompt in prompts)
    if limit and longest + max_new_tokens > limit:
        raise CorrSteerError(
            f"A prompt of {longest} tokens and {max_new_tokens} new ones do not fit {model.name}'s context of "
            f"{limit} tokens; shorten the prompt or ask for fewer tokens."
        )


def _positions(mask: Tensor) -> Tensor:
    """Position of every token counted from its row's first real one; padding gets 0."""
    return (mask.cumsum(-1) - 1).clamp_min(0)


def _expanded(cache, repeats: int):
    """A cache with every row repeated; the original stays as it is (layers replace their tensors, never write into them)."""
    new = copy.copy(cache)
    new.layers = [copy.copy(layer) for layer in cache.layers]
    if repeats > 1:
        for layer in new.layers:
            if getattr(layer, "is_initialized", True):
                layer.batch_repeat_interleave(repeats)
    return new


def _both(first: dict[Site, Action], second: dict[Site, Action]) -> dict[Site, Action]:
    """Actions of two kinds; where they meet, the first only looks, then the second changes."""

    def chained(look: Action, change: Action) -> Action:
        def action(activation: Tensor) -> Tensor | None:
            look(activation)
            return change(activation)

        return action

    merged = {**first, **second}
    for site in first.keys() & second.keys():
        merged[site] = chained(first[site], second[site])
    return merged


class _Steering:
    """The vectors of all variants as one matrix per hook point, to be added row by row."""

    def __init__(self, model: Model, variants: Sequence[Vectors]) -> None:
        self.n = len(variants)
        self.matrices: dict[Site, Tensor] = {}
        for point in sorted({point for vectors in variants for point in vectors}):
            width = model.width(point.kind)
            blank = torch.zeros(width)
            matrix = torch.stack([vectors.get(point, blank).cpu().float() for vectors in variants])
            self.matrices[model.site(point)] = matrix.to(model.device_of(point), model.dtype)  # (variants, d)

    def actions(self, rows: Tensor) -> dict[Site, Action]:
        def adding(matrix: Tensor) -> Action:
            added = matrix[(rows % self.n).to(matrix.device)][:, None]  # (rows, 1, d)
            # Before a layer its input may still be on the device of the one before.
            return lambda activation: activation + added.to(activation.device)

        return {site: adding(matrix) for site, matrix in self.matrices.items()}
