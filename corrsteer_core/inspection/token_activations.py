"""How active a feature is at every token of a text, and which of the tokens were pooled.

The prompt is put to the model as in fitting, and the answer follows it. Position t is where the model
has read token t; its generation positions run from the last prompt token to the last generated token
but one (see `generation`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from corrsteer_core.engine.batches import plan
from corrsteer_core.engine.generation import check_length, decode, prefill, tokens_by_row
from corrsteer_core.models.hooks import hooked
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import answer_text, render
from corrsteer_core.runs.poolings import DEFAULT_POOLING, get_pooling
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.saes.sae import Sae

TOGETHER = 16  # texts read at a time
_UNFINISHED = "\ufffd"


@dataclass(frozen=True)
class Text:
    """A prompt as the model reads it, and the answer that follows it."""

    prompt: tuple[int, ...]
    """Token ids."""
    answer: tuple[int, ...] = ()
    """Generated ids, an end token included where there was one."""

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.prompt + self.answer

    @property
    def generation_positions(self) -> range:
        """The last prompt token to the last generated token but one; none without an answer."""
        return range(len(self.prompt) - 1, len(self.tokens) - 1) if self.answer else range(0)

    def pooled_positions(self, pooling: str) -> range:
        """The positions that a run with this pooling looks at; with "all", the prompt's too."""
        generated = self.generation_positions
        return range(generated.stop) if get_pooling(pooling).prompt_too else generated


@dataclass(frozen=True)
class Span:
    """A stretch of a text: one token, or the few that make up a character together."""

    text: str
    start: int
    stop: int
    """Tokens start to stop - 1."""


@dataclass(frozen=True)
class FeatureActivations:
    """One feature's activation at every token of a text."""

    text: Text
    values: tuple[float, ...]
    """One per token."""
    spans: tuple[Span, ...]
    """The text in pieces; joined, they are the text as the tokenizer writes it, character for character."""

    def pooled(self, pooling: str = DEFAULT_POOLING) -> float:
        """What a run stores for this text (0 where it looks at no position)."""
        some = [self.values[place] for place in self.text.pooled_positions(pooling)]
        return float(np.mean(some) if get_pooling(pooling).averaged else max(some)) if some else 0.0

    def value(self, span: Span) -> float:
        """The largest activation within a span."""
        return max(self.values[span.start : span.stop])

    def is_answer(self, span: Span) -> bool:
        """Whether the span was generated, wholly or in part."""
        return span.stop > len(self.text.prompt)

    def is_pooled(self, span: Span, pooling: str = DEFAULT_POOLING) -> bool:
        """Whether any of its tokens is a position that a run looks at."""
        return any(place in self.text.pooled_positions(pooling) for place in range(span.start, span.stop))


def feature_activations(model: Model, sae: Sae, feature: int, texts: Sequence[Text]) -> list[FeatureActivations]:
    """The activations of one feature over each text, in the order given."""
    values = activations(model, [sae], {sae.layer: [feature]}, texts)
    return [
        FeatureActivations(text, tuple(value[sae.layer][:, 0].tolist()), spans(model, text.tokens))
        for text, value in zip(texts, values, strict=True)
    ]


def activations(
    model: Model, saes: Sequence[Sae], features: Mapping[int, Sequence[int]], texts: Sequence[Text]
) -> list[dict[int, np.ndarray]]:
    """Activations of some features of each layer over each text: layer -> (tokens, features of the layer), float32.

    All texts are read at once in batches of like length. Raises CorrSteerError for a text that does not fit.
    """
    found: list[dict[int, np.ndarray]] = [{} for _ in texts]
    if not texts:
        return found
    ids = [text.tokens for text in texts]
    check_length(model, [one[:-1] or one for one in ids], 1)
    for batch in plan(ids, TOGETHER):
        for place, values in zip(batch, _read(model, saes, features, [ids[place] for place in batch]), strict=True):
            found[place] = values
    return found


@torch.inference_mode()
def _read(
    model: Model, saes: Sequence[Sae], features: Mapping[int, Sequence[int]], ids: Sequence[Sequence[int]]
) -> list[dict[int, np.ndarray]]:
    """One batch."""
    kept = at_hook_points(model, [sae for sae in saes if sae.layer in features], ids)
    found: list[dict[int, np.ndarray]] = [{} for _ in ids]
    for sae in saes:
        if sae.layer not in features:
            continue
        for row, one in enumerate(ids):
            encoded = sae.encode(kept[sae.layer][row, : len(one)])
            found[row][sae.layer] = encoded[:, list(features[sae.layer])].cpu().numpy()
    return found


@torch.inference_mode()
def at_hook_points(model: Model, saes: Sequence[Sae], ids: Sequence[Sequence[int]]) -> dict[int, torch.Tensor]:
    """What the SAEs read of some texts (token ids), unsteered: (texts, longest text, d_in) by layer, in the model's dtype.

    Padding stands on the right, where no real token sees it; what is there is of no text.
    """
    width = max(map(len, ids))
    padded = torch.zeros(len(ids), width, dtype=torch.long)
    mask = torch.zeros_like(padded)
    for row, one in enumerate(ids):
        padded[row, : len(one)] = torch.tensor(one)
        mask[row, : len(one)] = 1
    kept: dict[int, torch.Tensor] = {}

    def keeping(layer: int):
        def look(activation: torch.Tensor) -> None:
            kept[layer] = activation.clone()  # the model may go on to change this tensor in place

        return look

    with hooked({model.site(sae.point): keeping(sae.layer) for sae in saes}):
        model.net.base_model(input_ids=padded.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
    return kept


# --- texts ---------------------------------------------------------------------------------------


def text_of(model: Model, prompt: str, style: PromptStyle, answer: str = "") -> Text:
    """A prompt, put to the model as in fitting, and an answer of one's own, as it is.

    All of the answer's tokens count as generated and as followed by another, so that each of them is
    looked at: the text goes on.
    """
    return Text(tuple(render(model, prompt, style)), tuple(_plain(model, answer)))


def answered(model: Model, prompt: str, output: str, tokens: int, style: PromptStyle) -> Text:
    """A sample of a run as it was read: the stored output is turned into the tokens that were generated.

    `tokens` is their stored number, the end token included. The output is tokenized again; where that
    gives another number (a model may write a word in unusual pieces, or special tokens, which are not
    stored), the answer is generated again, unsteered and greedily as the run's was.
    """
    ids = tuple(render(model, prompt, style))
    written = _plain(model, output)
    end = min(model.end_tokens, default=0)  # which of the end tokens it was is never read
    for answer in (written, [*written, end]):
        if len(answer) == tokens and answer_text(model, answer) == output:
            return Text(ids, tuple(answer))
    steps = decode(model, prefill(model, [ids]), max_new_tokens=tokens)
    return Text(ids, tuple(tokens_by_row(steps, 1)[0]))


def _plain(model: Model, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []


def spans(model: Model, tokens: Sequence[int]) -> tuple[Span, ...]:
    """The tokens as pieces of text that, joined, are exactly what the tokenizer decodes all of them to.

    A token that ends amid a character stays with the next ones until the character is whole.
    """
    return tuple(_spans(model, list(tokens)))


def _spans(model: Model, tokens: list[int]) -> Iterator[Span]:
    def text(start: int, stop: int) -> str:
        return model.tokenizer.decode(tokens[start:stop], clean_up_tokenization_spaces=False)

    # Decoded with the piece before it, since some tokenizers treat the beginning of a text in a way of its own.
    before, start = 0, 0
    for stop in range(1, len(tokens) + 1):
        known, both = text(before, start), text(before, stop)
        if both.endswith(_UNFINISHED) and stop < len(tokens):
            continue
        yield Span(both[len(known) :], start, stop)
        before, start = start, stop
