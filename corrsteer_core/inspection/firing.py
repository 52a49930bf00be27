"""Which features fire on a text: every feature of every layer that is active at a token of it.

`token_activations` follows some features over many texts; here all features of one text are wanted, so only what is
above 0 is kept. A text is read once, unsteered, and the numbers are the encoders' own. A run pools at generation
positions alone; here every token of the typed text and of the answer counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.engine.generation import check_length, decode, prefill
from corrsteer_core.inspection.token_activations import Span, Text, at_hook_points, spans
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import render
from corrsteer_core.runs import stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.saes.sae import Sae

LONGEST = 8_000
"""Characters of a text that is read at once."""
MOST_TOKENS = 2_000
"""Tokens that are read at once, with what is put around the text and the answer."""
LONGEST_ANSWER = 256
"""Tokens of an answer, at most, however long the run's were."""
TOGETHER = 128  # tokens encoded at a time: of an SAE of a million features, half a gigabyte
PLAIN = PromptStyle(chat=False)
"""A text as it is, with nothing around it."""

Part = Literal["around", "text", "answer"]
Where = Literal["all", "generation"]


@dataclass(frozen=True)
class ReadText:
    """A text, and every activation above 0 in it."""

    text: Text
    parts: tuple[Part, ...]
    """Of each token: typed, generated, or put around both (template, examples, begin and end tokens)."""
    spans: tuple[Span, ...]
    """The tokens as pieces of text."""
    active: pd.DataFrame
    """layer, feature, token (its place in the text), value; a row for each activation, by layer, token and feature."""

    def label(self, token: int) -> str:
        """The piece of text that a token is part of."""
        return self._piece(token).text

    def _piece(self, token: int) -> Span:
        return next(span for span in self.spans if span.start <= token < span.stop)

    def counted(self, wanted: Wanted) -> list[int]:
        """The places of the tokens that count."""
        own = [place for place, part in enumerate(self.parts) if part != "around"]
        looked_at = self.text.generation_positions
        places = own if wanted.where == "all" else list(looked_at)
        kept = [place for place in places if wanted.first or place]
        if wanted.token is None:
            return kept
        piece = self._piece(wanted.token)
        return [place for place in kept if piece.start <= place < piece.stop]


@dataclass(frozen=True)
class Wanted:
    """What of a text is looked at."""

    layers: tuple[int, ...] = ()
    """Only these; empty for all."""
    where: Where = "all"
    """"all": every token of the typed text and the answer; "generation": the positions that a run looks at."""
    first: bool = True
    """Whether the very first token that was read counts: on it many features fire whatever it says."""
    everywhere: bool = True
    """Whether features count that fire at more than half of these tokens (and more than two): they say little of any."""
    token: int | None = None
    """Only the piece of text that the token at this place is part of."""
    among: frozenset[tuple[int, int]] | None = None
    """Only these features (layer, feature); None for all."""

    def __post_init__(self) -> None:
        if self.where not in (known := ("all", "generation")):
            raise CorrSteerError(f"There are no positions {self.where!r}; choose one of {', '.join(known)}.")


def read(
    model: Model, saes: Sequence[Sae], text: str, style: PromptStyle = PLAIN, *, new_tokens: int = 0,
    progress: Progress = silent,
) -> ReadText:  # fmt: skip
    """Read a text with every SAE. With `new_tokens`, it is a prompt: the model's greedy answer to it is read too.

    No hook is on the model where `progress` is called. Raises CorrSteerError for an empty text and one that is too long.
    """
    check_text(text)
    prompt = render(model, text, style)
    if len(prompt) + new_tokens > MOST_TOKENS:
        raise CorrSteerError(
            f"The text is {len(prompt):,} tokens long as this model reads it, and {new_tokens} may follow; at most "
            f"{MOST_TOKENS:,} are read at a time, so give a part of it."
        )
    check_length(model, [prompt], max(1, new_tokens))
    answer = _answer(model, prompt, new_tokens, progress) if new_tokens else []
    whole = Text(tuple(prompt), tuple(answer))
    active = _active(model, saes, whole.tokens, progress)
    return ReadText(whole, tuple(_parts(model, whole, style)), spans(model, whole.tokens), active)


def check_text(text: str) -> None:
    """Raise CorrSteerError for a text that has nothing to read or too much, before a model is asked."""
    if not text.strip():
        raise CorrSteerError("The text is empty; type something for the model to read.")
    if len(text) > LONGEST:
        raise CorrSteerError(
            f"The text has {len(text):,} characters; at most {LONGEST:,} are read at a time, so give a part of it."
        )


def read_for(
    run: str, text: str, model: Model, saes: Sequence[Sae], *, answer: bool = False, progress: Progress = silent
) -> ReadText:
    """Read a text with a run's model and SAEs: as it is, or (`answer`) as a prompt of the run with its answer.

    The answer is at most as long as the run's own and LONGEST_ANSWER tokens.
    """
    if not answer:
        return read(model, saes, text, progress=progress)
    config, _ = stored_run.stored(run)
    new_tokens = min(config.max_new_tokens, LONGEST_ANSWER)
    return read(model, saes, text, config.style, new_tokens=new_tokens, progress=progress)


def _answer(model: Model, prompt: Sequence[int], new_tokens: int, progress: Progress) -> list[int]:
    """What the model writes, greedily and unsteered."""
    written: list[int] = []
    progress("answering", 0, new_tokens)
    for step in decode(model, prefill(model, [prompt]), max_new_tokens=new_tokens):
        written += step.tokens[step.alive].tolist()
        progress("answering", len(written), new_tokens)
    return written


@torch.inference_mode()
def _active(model: Model, saes: Sequence[Sae], tokens: Sequence[int], progress: Progress) -> pd.DataFrame:
    """Every activation above 0, layer by layer."""
    progress("reading the text", 0, 1)
    read_by = at_hook_points(model, saes, [tokens])
    found = []
    for done, sae in enumerate(saes):
        progress("looking for features, layer by layer", done, len(saes))
        for start in range(0, len(tokens), TOGETHER):
            encoded = sae.encode(read_by[sae.layer][0, start : start + TOGETHER])
            places, features = (encoded > 0).nonzero(as_tuple=True)
            values = encoded[places, features].float().cpu().numpy()
            columns = {"feature": features.cpu().numpy(), "token": places.cpu().numpy() + start, "value": values}
            found.append(pd.DataFrame({"layer": sae.layer, **columns}))
    # Many rows of small numbers: of 2,000 tokens and 26 layers, millions.
    return pd.concat(found, ignore_index=True).astype({"layer": "int16", "feature": "int32", "token": "int32"})


def _parts(model: Model, text: Text, style: PromptStyle) -> list[Part]:
    """Whose each token is."""
    own = _typed(model, text.prompt, style)
    prompt: list[Part] = ["text" if place in own else "around" for place in range(len(text.prompt))]
    return prompt + ["around" if token in model.end_tokens else "answer" for token in text.answer]


def _typed(model: Model, prompt: Sequence[int], style: PromptStyle) -> range:
    """The typed tokens of a prompt: what it does not share, at either end, with the prompts of two other texts.

    Two, since the typed text may begin or end as one of them does.
    """
    others = [render(model, text, style) for text in ("x", "1")]
    start = min(_shared(prompt, other) for other in others)
    end = min(_shared(prompt[::-1], other[::-1]) for other in others)
    return range(start, max(start, len(prompt) - end))


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
