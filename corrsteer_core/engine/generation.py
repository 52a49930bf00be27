"""The one generation loop: prompts are read once, and every variant of them is decoded from there.

Steering and pooling act at generation positions only: the last prompt token, then every generated
token except the last one. So every variant of a prompt (unsteered, or steered one way or another)
shares the keys and values of all prompt tokens before the last. `prefill` computes those once (and
`read_opening`, before it, those of the tokens that all prompts begin with); `decode` goes on from the
last prompt token with the variants of a prompt side by side as one block of queries. Which key a
query sees is said by the attention mask alone: those of the prompt and those of its own variant. So
the prompt's keys and values are neither computed nor copied for each variant. A model with layers that keep
a state in place of keys cannot share it so: there each variant is a row with a copy of what its prompt left.

Rows are numbered prompt by prompt: row = prompt * number of variants + variant.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.choosing import Choose, greedy
from corrsteer_core.engine.keys_and_values import ALL, Masks, empty_cache, masks, repeated, select_rows
from corrsteer_core.engine.operations import Acting, Vectors, acting, acts, constant_part
from corrsteer_core.models.hooks import LOGITS, Action, Site, hooked, together
from corrsteer_core.models.loading import Model

UNSTEERED: Vectors = {}


def set_apart(variants: Sequence[Vectors]) -> tuple[list[Vectors], list[int]]:
    """The variants that differ in what they do, and for each variant its place among them: all that add nothing are one.

    In bfloat16 a row is rounded by what is computed beside it, so that the unsteered text, decoded twice in one batch, may
    differ from itself. Scale 0 is the unsteered text by being it.
    """
    different: list[Vectors] = []
    places: list[int] = []
    unsteered: int | None = None
    for vectors in variants:
        nothing = not any(isinstance(one, Acting) or bool(one.any()) for one in vectors.values())
        if nothing and unsteered is not None:
            places.append(unsteered)
            continue
        unsteered = len(different) if nothing else unsteered
        places.append(len(different))
        different.append(vectors)
    return different, places


class Watch(Protocol):
    """Something that looks at activations while the model runs (see `engine.pooling`)."""

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

    def times(self, n: int) -> Prefix:
        """Every prompt n times, to go on from; this prefix stays as it is."""
        cache = repeated(self.cache, 1)
        if n == 1:
            return replace(self, cache=cache)
        rows = torch.arange(len(self.last), device=self.last.device).repeat_interleave(n)
        select_rows(cache, rows)
        return Prefix(cache, self.places[rows], self.last[rows], self.lengths[rows])


@dataclass
class Step:
    """One decoded position of the rows still in the batch."""

    index: int
    rows: Tensor  # (n,) original row numbers
    tokens: Tensor  # (n,) chosen ids
    alive: Tensor  # (n,) false for rows that had ended before this step
    logits: Tensor  # (n, vocabulary)


@torch.inference_mode()
def read_opening(model: Model, prompts: Sequence[Sequence[int]], watch: Watch | None = None) -> Opening | None:
    """Read what all prompts begin with (a system prompt, examples); None if there is nothing, or one prompt only.

    None, too, for a model with states: a shorter prompt's padding would come between the opening and the rest.
    """
    if model.recurrent:
        return None
    # The last token of a prompt is decoded, never read beforehand, so it cannot be part of the opening.
    first, last = min(prompts, key=list), max(prompts, key=list)  # what these two share, all in between share
    pairs = zip(first[: min(map(len, prompts)) - 1], last, strict=False)
    length = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    if len(prompts) < 2 or length == 0:
        return None
    cache = empty_cache(model)
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
    cache = repeated(opening.cache, len(prompts)) if opening else empty_cache(model)
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
            attention_mask=masks(model, places, keys),
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
    block = _Block.start(model, prefix, len(variants))
    steering = _Steering(model, variants)
    ends = torch.tensor(sorted(model.end_tokens), dtype=torch.long, device=block.tokens.device)
    # Asking the device whether rows have ended makes the host wait for it; on a CPU that is free.
    ask_every = 1 if block.tokens.device.type == "cpu" else 8

    for index in range(max_new_tokens):
        with torch.inference_mode():
            rows, alive = block.rows.flatten(), block.alive.flatten()
            looking = watch.step_actions(rows, alive) if watch else {}
            actions = together(looking, *steering.actions(block.variant, index))
            masks = block.masks(model)
            with hooked(actions):
                logits = model.net(
                    input_ids=block.tokens,
                    attention_mask=masks,
                    position_ids=block.position.expand_as(block.tokens),
                    past_key_values=block.cache,
                    use_cache=True,
                ).logits.flatten(0, 1)
            logits = steering.pushed(logits, block.variant.flatten())
            tokens = choose(logits, index).to(rows.device)
            block.advance(tokens, ends)
        if watch:
            watch.step_done()
        yield Step(index, rows, tokens, alive, logits)
        if (index + 1) % ask_every == 0 and index + 1 < max_new_tokens and not block.compact():
            return


@dataclass
class _Block:
    """The rows still in the batch: the variants of a prompt are queries side by side, over one set of keys.

    In a model with states each stands alone, as if it were a prompt of its own.
    """

    cache: Any
    places: Tensor  # (prompts, keys) position of every key, -1 for padding
    owner: Tensor  # (prompts, keys) the variant that a key belongs to, or ALL
    position: Tensor  # (prompts, 1) of the tokens to be decoded next
    rows: Tensor  # (prompts, queries) row numbers
    variant: Tensor  # (prompts, queries)
    tokens: Tensor  # (prompts, queries) to be decoded next
    alive: Tensor  # (prompts, queries) false for rows that have ended

    @classmethod
    def start(cls, model: Model, prefix: Prefix, n: int) -> _Block:
        """All rows of a prefix, about to decode the last prompt token."""
        rows = torch.arange(len(prefix.last) * n, device=prefix.last.device)
        prefix = prefix.times(n if model.recurrent else 1)
        rows = rows.view(len(prefix.last), -1)
        return cls(
            cache=prefix.cache,
            places=prefix.places,
            owner=torch.full_like(prefix.places, ALL),
            position=prefix.lengths[:, None] - 1,
            rows=rows,
            variant=rows % n,
            tokens=prefix.last[:, None].expand(rows.shape),
            alive=torch.ones_like(rows, dtype=torch.bool),
        )

    def masks(self, model: Model) -> Masks:
        """What the next tokens see; their keys are counted in."""
        self.places = torch.cat([self.places, self.position.expand_as(self.variant)], 1)
        self.owner = torch.cat([self.owner, self.variant], 1)
        own = (self.owner[:, None] == ALL) | (self.owner[:, None] == self.variant[:, :, None])
        return masks(model, self.position.expand_as(self.variant), self.places, own)

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
                select_rows(self.cache, keep)
        return width > 0


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


class _Steering:
    """The vectors of all variants as one matrix per hook point, to be added row by row, and what else some of them do."""

    def __init__(self, model: Model, variants: Sequence[Vectors]) -> None:
        self.model = model
        self.matrices: dict[Site, Tensor] = {}
        constants = [constant_part(vectors) for vectors in variants]
        self.acting = {place: vectors for place, vectors in enumerate(variants) if acts(vectors)}
        self.pushes = {place: vectors[LOGITS].float() for place, vectors in enumerate(constants) if LOGITS in vectors}
        for point in sorted({point for vectors in constants for point in vectors} - {LOGITS}):
            width = model.width(point.kind)
            blank = torch.zeros(width)
            matrix = torch.stack([vectors.get(point, blank).cpu().float() for vectors in constants])
            self.matrices[model.site(point)] = matrix.to(model.device_of(point), model.dtype)  # (variants, d)

    def actions(self, variant: Tensor, index: int) -> Iterator[dict[Site, Action]]:
        """Actions for the queries of these variants, (prompts, queries), at a step; first what reads the activation."""

        def adding(matrix: Tensor) -> Action:
            added = matrix[variant.to(matrix.device)]  # (prompts, queries, d)
            # Before a layer its input may still be on the device of the one before.
            return lambda activation: activation + added.to(activation.device)

        for place, vectors in self.acting.items():
            yield acting(self.model, vectors, variant == place, index)
        yield {site: adding(matrix) for site, matrix in self.matrices.items()}

    def pushed(self, logits: Tensor, variant: Tensor) -> Tensor:
        """The logits (rows, vocabulary) of rows of these variants, with what some of them add to theirs."""
        for place, push in self.pushes.items():
            rows = (variant == place).nonzero().flatten().to(logits.device)
            logits[rows] += push.to(logits.device, logits.dtype)
        return logits
