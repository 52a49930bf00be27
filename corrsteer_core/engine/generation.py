"""The one generation loop: prompts are read once, and every variant of them is decoded from there.

Steering and pooling act at generation positions only: the last prompt token, then every generated
token except the last one. So every variant of a prompt (unsteered, or steered one way or another)
shares the keys and values of all prompt tokens before the last. `prefill` computes those once (and
`read_opening`, before it, those of the tokens that all prompts begin with); `decode` goes on from the
last prompt token with the variants of a prompt side by side as one block of queries. Which key a
query sees is said by the attention mask alone: those of the prompt and those of its own variant. So
the prompt's keys and values are neither computed nor copied for each variant.

Rows are numbered prompt by prompt: row = prompt * number of variants + variant.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.hooks import Action, HookPoint, Site, hooked
from corrsteer_core.models.loading import Model

Vectors = Mapping[HookPoint, Tensor]
"""One variant's steering: what is added at each hook point, (d,) each. Empty: unsteered."""

UNSTEERED: Vectors = {}

_SEEDS = 2**63  # that PyTorch takes

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
class Opening:
    """The tokens that several prompts begin with, read once."""

    cache: Any
    length: int


@dataclass
class Prefix:
    """Prompts read up to their last token: their keys and values, and what stands where."""

    cache: Any
    places: Tensor  # (prompts, keys) position of every key in its prompt, -1 for padding
    last: Tensor  # (prompts,) ids of the last prompt tokens
    lengths: Tensor  # (prompts,) tokens of each prompt


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
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % _SEEDS)
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
def read_opening(model: Model, prompts: Sequence[Sequence[int]], watch: Watch | None = None) -> Opening | None:
    """Read what all prompts begin with (a system prompt, examples); None if there is nothing, or one prompt only."""
    # The last token of a prompt is decoded, never read beforehand, so it cannot be part of the opening.
    first, last = min(prompts, key=list), max(prompts, key=list)  # what these two share, all in between share
    pairs = zip(first[: min(map(len, prompts)) - 1], last, strict=False)
    length = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    if len(prompts) < 2 or length == 0:
        return None
    cache = _empty_cache()
    places = torch.arange(length, device=model.device)[None]
    ids = torch.tensor([prompts[0][:length]], device=model.device)
    _read(model, cache, ids, places, places, watch)
    return Opening(cache, length)


@torch.inference_mode()
def prefill(
    model: Model,
    prompts: Sequence[Sequence[int]],
    watch: Watch | None = None,
    opening: Opening | None = None,
) -> Prefix:
    """Read all prompt tokens but the last, unsteered. Prompts are lists of token ids, none empty.

    With an `opening`, which all of them must begin with, only what follows it is read (and watched).
    """
    start = opening.length if opening else 0
    width = max(len(prompt) for prompt in prompts) - 1 - start
    ids = torch.full((len(prompts), width), next(iter(model.end_tokens), 0))
    places = torch.full((len(prompts), start + width), -1)
    places[:, :start] = torch.arange(start)
    for row, prompt in enumerate(prompts):  # padded on the left, after the opening
        read = len(prompt) - 1 - start
        ids[row, width - read :] = torch.tensor(prompt[start:-1], dtype=torch.long)
        places[row, start + width - read :] = torch.arange(start, start + read)
    ids, places = ids.to(model.device), places.to(model.device)
    cache = _repeated(opening.cache, len(prompts)) if opening else _empty_cache()
    if width:
        _read(model, cache, ids, places[:, start:], places, watch)
    last = torch.tensor([prompt[-1] for prompt in prompts], device=model.device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    return Prefix(cache, places, last, lengths)


def _read(model: Model, cache: Any, ids: Tensor, places: Tensor, keys: Tensor, watch: Watch | None) -> None:
    """Add the keys and values of prompt tokens at some places, -1 for padding, to a cache; `keys` are all its places."""
    with hooked(watch.prompt_actions((places >= 0).long()) if watch else {}):
        # The base model: no logits are needed for the prompt, and the vocabulary is wide.
        model.net.base_model(
            input_ids=ids,
            attention_mask=_masks(model, places, keys),
            position_ids=places.clamp_min(0),
            past_key_values=cache,
            use_cache=True,
        )


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
    block = _Block.start(prefix, len(variants))
    steering = _Steering(model, variants)
    ends = torch.tensor(sorted(model.end_tokens), dtype=torch.long, device=block.tokens.device)
    # Asking the device whether rows have ended makes the host wait for it; on a CPU that is free.
    ask_every = 1 if block.tokens.device.type == "cpu" else 8

    for index in range(max_new_tokens):
        with torch.inference_mode():
            rows, alive = block.rows.flatten(), block.alive.flatten()
            actions = _both(watch.step_actions(rows, alive) if watch else {}, steering.actions(block.variant))
            masks = block.masks(model)
            with hooked(actions):
                logits = model.net(
                    input_ids=block.tokens,
                    attention_mask=masks,
                    position_ids=block.position.expand_as(block.tokens),
                    past_key_values=block.cache,
                    use_cache=True,
                ).logits.flatten(0, 1)
            tokens = choose(logits, index).to(rows.device)
            block.advance(tokens, ends)
        if watch:
            watch.step_done()
        yield Step(index, rows, tokens, alive, logits)
        if (index + 1) % ask_every == 0 and index + 1 < max_new_tokens and not block.compact():
            return


@dataclass
class _Block:
    """The rows still in the batch: the variants of a prompt are queries side by side, over one set of keys."""

    cache: Any
    places: Tensor  # (prompts, keys) position of every key, -1 for padding
    owner: Tensor  # (prompts, keys) the variant that a key belongs to, or _ALL
    position: Tensor  # (prompts, 1) of the tokens to be decoded next
    rows: Tensor  # (prompts, queries) row numbers
    variant: Tensor  # (prompts, queries)
    tokens: Tensor  # (prompts, queries) to be decoded next
    alive: Tensor  # (prompts, queries) false for rows that have ended

    @classmethod
    def start(cls, prefix: Prefix, n: int) -> _Block:
        """All rows of a prefix, about to decode the last prompt token."""
        count, device = len(prefix.last), prefix.last.device
        rows = torch.arange(count * n, device=device).view(count, n)
        return cls(
            cache=_repeated(prefix.cache, 1),
            places=prefix.places,
            owner=torch.full_like(prefix.places, _ALL),
            position=prefix.lengths[:, None] - 1,
            rows=rows,
            variant=rows % n,
            tokens=prefix.last[:, None].expand(count, n),
            alive=torch.ones_like(rows, dtype=torch.bool),
        )

    def masks(self, model: Model) -> Tensor | dict[str, Tensor]:
        """What the next tokens see; their keys are counted in."""
        self.places = torch.cat([self.places, self.position.expand_as(self.variant)], 1)
        self.owner = torch.cat([self.owner, self.variant], 1)
        own = (self.owner[:, None] == _ALL) | (self.owner[:, None] == self.variant[:, :, None])
        return _masks(model, self.position.expand_as(self.variant), self.places, own)

    def advance(self, tokens: Tensor, ends: Tensor) -> None:
        """Take the chosen tokens (rows,) as the ones to be decoded next."""
        self.tokens = tokens.view_as(self.rows)
        self.alive = self.alive & ~torch.isin(self.tokens, ends)
        self.position = self.position + 1

    @torch.inference_mode()
    def compact(self) -> bool:
        """Let ended rows leave, where that is worth copying the cache; false if none is left."""
        counts = self.alive.sum(1)
        keep = counts.nonzero().flatten()
        width = int(counts.max())
        if width and len(keep) * width < 0.8 * self.alive.numel():
            # Living rows first; a prompt with fewer of them than others keeps some that have ended.
            chosen = self.alive[keep].to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
            for name in ("rows", "variant", "tokens", "alive"):
                setattr(self, name, getattr(self, name)[keep].gather(1, chosen))
            if len(keep) < len(counts):
                self.places, self.owner, self.position = self.places[keep], self.owner[keep], self.position[keep]
                _select(self.cache, keep)
        return width > 0


def continued(model: Model, prefix: Prefix, rows: Sequence[int], outputs: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities (rows, longest output), float32, of given outputs after a prefix, unsteered, in one pass.

    `rows` names the prompt of each output. What lies beyond the end of a shorter output means nothing.
    """
    logits = forced(model, prefix, rows, outputs)
    ids = _padded(outputs).to(logits.device)
    return logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]


def forced(model: Model, prefix: Prefix, rows: Sequence[int], outputs: Sequence[Sequence[int]]) -> Tensor:
    """Logits (rows, longest output, vocabulary) at the generation positions of given outputs, none empty, in one pass.

    Read are the last prompt token and every token of an output but the last, so hooks see generation positions alone.
    """
    chosen = torch.tensor(list(rows), device=prefix.last.device)
    ids = _padded(outputs).to(prefix.last.device)
    cache = _repeated(prefix.cache, 1)
    _select(cache, chosen)
    places = prefix.lengths[chosen][:, None] - 1 + torch.arange(ids.shape[1], device=chosen.device)
    # Later tokens are hidden from earlier ones by their positions, so the shorter outputs need no more.
    return model.net(
        input_ids=torch.cat([prefix.last[chosen][:, None], ids[:, :-1]], 1),
        attention_mask=_masks(model, places, torch.cat([prefix.places[chosen], places], 1)),
        position_ids=places,
        past_key_values=cache,
        use_cache=True,
    ).logits


def _padded(outputs: Sequence[Sequence[int]]) -> Tensor:
    """Ids (outputs, longest), zeros after the end of a shorter one."""
    ids = torch.zeros(len(outputs), max(map(len, outputs)), dtype=torch.long)
    for row, output in enumerate(outputs):
        ids[row, : len(output)] = torch.tensor(list(output), dtype=torch.long)
    return ids


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


_ALL = -1  # owner of the keys that every variant sees


def _masks(model: Model, queries: Tensor, keys: Tensor, own: Tensor | None = None) -> Tensor | dict[str, Tensor]:
    """What is added to attention: 0 where a query sees a key, the lowest number where not, in the model's form.

    `queries` (prompts, queries) and `keys` (prompts, keys) are positions, -1 for padding; `own` (prompts,
    queries, keys) says which keys are not another variant's. Sliding windows are counted in positions too,
    since neither padding nor other variants may take room in them.
    """
    gap = queries[:, :, None] - keys[:, None]  # (prompts, queries, keys)
    seen = (keys[:, None] >= 0) & (gap >= 0)
    if own is not None:
        seen = seen & own

    def additive(visible: Tensor) -> Tensor:
        lowest = torch.finfo(model.dtype).min
        return torch.zeros(visible.shape, dtype=model.dtype, device=gap.device).masked_fill_(~visible, lowest)[:, None]

    window = getattr(model.text_config, "sliding_window", None)
    if window is None:
        return additive(seen)
    near = additive(seen & (gap < window))
    if "full_attention" in (getattr(model.text_config, "layer_types", None) or ()):
        return {"full_attention": additive(seen), "sliding_attention": near}
    return near


def _empty_cache() -> Any:
    """A cache that keeps all keys of every layer: what lies outside a sliding window is the mask's business."""
    from transformers import DynamicCache

    return DynamicCache()


def _repeated(cache: Any, times: int) -> Any:
    """A cache of one row seen as several, or another of the same rows: layers replace tensors, never write into them."""
    new = copy.copy(cache)
    new.layers = [copy.copy(layer) for layer in cache.layers]
    if times > 1:
        for layer in new.layers:
            layer.keys = layer.keys.expand(times, -1, -1, -1)
            layer.values = layer.values.expand(times, -1, -1, -1)
    return new


def _select(cache: Any, rows: Tensor) -> None:
    """Leave some rows in a cache, or rows several times; under a device map its layers lie on several devices."""
    for layer in cache.layers:
        if layer.is_initialized:
            layer.batch_select_indices(rows.to(layer.keys.device))


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
        self.matrices: dict[Site, Tensor] = {}
        for point in sorted({point for vectors in variants for point in vectors}):
            width = model.width(point.kind)
            blank = torch.zeros(width)
            matrix = torch.stack([vectors.get(point, blank).cpu().float() for vectors in variants])
            self.matrices[model.site(point)] = matrix.to(model.device_of(point), model.dtype)  # (variants, d)

    def actions(self, variant: Tensor) -> dict[Site, Action]:
        """Actions for the queries of these variants, (prompts, queries)."""

        def adding(matrix: Tensor) -> Action:
            added = matrix[variant.to(matrix.device)]  # (prompts, queries, d)
            # Before a layer its input may still be on the device of the one before.
            return lambda activation: activation + added.to(activation.device)

        return {site: adding(matrix) for site, matrix in self.matrices.items()}
