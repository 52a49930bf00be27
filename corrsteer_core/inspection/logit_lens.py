"""What a feature's direction says by itself, no text needed: the tokens it promotes, and the features like it.

The logit lens: a direction d is carried through the model's final norm and its unembedding W_U. A norm
is not linear: it divides by the size of the whole residual, which depends on the text. That factor is
one positive number for all tokens, so it is left out, and what is learned or fixed of the norm stays:

    score = W_U (gain * d), minus its mean over the vocabulary,

with gain the norm's learned weight (Gemma's is 1 + w), and d first freed of its mean where the norm
does that (LayerNorm). A score is what one unit of activation adds to a token's logit, compared with the
average token, in a residual whose root mean square is 1. The mean is taken away since a softmax does
not see it. Blocks in between, biases, and soft caps on logits (monotone) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.devices import computes_on
from corrsteer_core.models.loading import Model, weight_of
from corrsteer_core.saes.sae import Sae

TOP = 10
CHUNK = 256
"""Features scored against the whole vocabulary, or compared with each other, at a time."""


@dataclass(frozen=True)
class TokenScore:
    """A token and what a feature adds to its logit."""

    token: int
    text: str
    """The token as people read it (see `token_label`)."""
    score: float


@dataclass(frozen=True)
class Promoted:
    """The tokens a feature makes likelier and less likely, strongest first."""

    promoted: tuple[TokenScore, ...]
    suppressed: tuple[TokenScore, ...]


@dataclass(frozen=True)
class Neighbour:
    """A feature and the cosine of its decoder direction with another's."""

    layer: int
    feature: int
    cosine: float
    promotes: tuple[str, ...] = ()
    """The tokens it makes likelier, strongest first; empty where they were not looked up."""


# --- promoted tokens -----------------------------------------------------------------------------


def promoted(model: Model, sae: Sae, features: Sequence[int], top: int = TOP) -> list[Promoted]:
    """The `top` promoted and suppressed tokens of each feature, in the order of `features`.

    Raises CorrSteerError for a feature the SAE does not have or an SAE whose features have no direction.
    """
    found = []
    for start in range(0, len(features), CHUNK):
        scores = token_scores(model, sae, features[start : start + CHUNK])
        highest, lowest = scores.topk(min(top, scores.shape[1])), (-scores).topk(min(top, scores.shape[1]))
        found += [
            Promoted(_named(model, up, up_scores), _named(model, down, -down_scores))
            for up, up_scores, down, down_scores in zip(
                highest.indices, highest.values, lowest.indices, lowest.values, strict=True
            )
        ]
    return found


@torch.inference_mode()
def token_scores(model: Model, sae: Sae, features: Sequence[int]) -> Tensor:
    """Score of every token of the tokenizer for each feature, (k, tokens) float32; see the top of this module."""
    through = normed(model, residual_directions(model, sae, features))
    weight = weight_of(model.net.get_output_embeddings())[: len(model.tokenizer)]  # rows beyond it are padding
    scores = (through.to(weight.device, torch.float32) @ weight.float().T).cpu()
    return scores - scores.mean(-1, keepdim=True)


@torch.inference_mode()
def normed(model: Model, directions: Tensor) -> Tensor:
    """Directions (k, d_model) behind the final norm, without the norm's data-dependent factor."""
    norm = model.net.get_submodule(model.layout.final_norm)
    gain, centres = _gain(norm, directions.shape[-1])
    directions = directions.to(gain.device)
    if centres:
        directions = directions - directions.mean(-1, keepdim=True)
    return directions * gain


@torch.inference_mode()
def residual_directions(model: Model, sae: Sae, features: Sequence[int]) -> Tensor:
    """What the features add to the residual stream per unit, (k, d_model).

    That is their decoder direction, except for SAEs of the heads' outputs (attn_z): theirs is carried
    through the attention's output projection, and where a norm follows (Gemma), through its gain.
    """
    _check(sae, features)
    directions = sae.directions(features)
    if sae.point.kind != "attn_z":
        return directions
    block, layout = model.blocks[sae.layer], model.layout
    project = block.get_submodule(layout.attn_z)
    inputs = torch.cat([directions, torch.zeros_like(directions[:1])]).to(computes_on(project), model.dtype)
    outputs = project(inputs).float()
    directions = outputs[:-1] - outputs[-1]  # without the bias
    if layout.attn_out != layout.attn_z:
        gain, _ = _gain(block.get_submodule(layout.attn_out), directions.shape[-1])
        directions = directions * gain
    return directions


def _gain(norm: nn.Module, width: int) -> tuple[Tensor, bool]:
    """A norm's learned factors, (width,) float32, and whether it takes away the mean."""
    if isinstance(norm, nn.LayerNorm):
        return weight_of(norm).float(), True
    # Root mean square norms differ in how they keep their weight (Gemma's is off by one), so the norm is asked: of
    # equal entries, large enough that its epsilon vanishes, it returns its gain.
    where = computes_on(norm) if next(norm.parameters(), None) is not None else None
    flat = torch.full((1, width), 1e4, device=where)
    if (gain := norm(flat).float()[0]).any():
        return gain, False
    # One that leaves nothing of equal entries takes away the mean (OLMo's, which has no weights): asked with entries of mean 0.
    signs = torch.ones(width, device=where)
    signs[1::2] = -1
    return norm(1e4 * signs[None]).float()[0] * signs, True


def _check(sae: Sae, features: Sequence[int]) -> None:
    for feature in features:
        if not 0 <= feature < sae.d_sae:
            raise CorrSteerError(f"Layer {sae.layer} has features 0 to {sae.d_sae - 1}, but {feature} was asked for.")


def _named(model: Model, tokens: Tensor, scores: Tensor) -> tuple[TokenScore, ...]:
    pairs = zip(tokens.tolist(), scores.tolist(), strict=True)
    return tuple(TokenScore(token, token_label(model, token), score) for token, score in pairs)


def token_label(model: Model, token: int) -> str:
    """A token by itself as people read it: its text, or for a part of a character its spelling in the vocabulary."""
    text = model.tokenizer.decode([token], clean_up_tokenization_spaces=False)
    spelled = model.tokenizer.convert_ids_to_tokens(token) or ""
    if text and "\ufffd" not in text:
        # Some tokenizers drop the space that a text would begin with; the token has it all the same.
        return f" {text}" if spelled.startswith("\u2581") and not text.startswith(" ") else text
    return f"\u27e8{spelled}\u27e9"


# --- features like it ----------------------------------------------------------------------------


def nearest(saes: Sequence[Sae], layer: int, feature: int, top: int = 8, *, elsewhere: bool = False) -> list[Neighbour]:
    """The features whose decoder directions have the highest cosine with one feature's, best first.

    Those of SAEs of another width are left out: directions in different spaces have no cosine. Give the
    one SAE of `layer` to look within the layer, or several to look over layers; with `elsewhere`, the
    layer's own features are left out.
    """
    own = next((sae for sae in saes if sae.layer == layer), None)
    if own is None:
        raise CorrSteerError(f"There is no SAE of layer {layer} among those given.")
    _check(own, [feature])
    wanted = _unit(_decoder(own)[feature][None])[0]
    found: list[Neighbour] = []
    for sae in saes:
        if sae.d_in != own.d_in or (sae.point.kind == "attn_z") != (own.point.kind == "attn_z"):
            continue
        if elsewhere and sae is own:
            continue
        cosines = torch.cat([_unit(rows) @ wanted.to(rows.device) for rows in _chunks(_decoder(sae))]).cpu()
        if sae is own:
            cosines[feature] = -torch.inf
        best = cosines.topk(min(top, sae.d_sae - (sae is own)))
        found += [
            Neighbour(sae.layer, place, cosine)
            for place, cosine in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
    return sorted(found, key=lambda one: (-one.cosine, one.layer, one.feature))[:top]


def _decoder(sae: Sae) -> Tensor:
    """Directions of all features up to a positive factor each, which a cosine does not see: (d_sae, d_in)."""
    return sae.net.W_dec


def _chunks(rows: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(rows), 16 * CHUNK):
        yield rows[start : start + 16 * CHUNK]


def _unit(rows: Tensor) -> Tensor:
    return nn.functional.normalize(rows.detach().float(), dim=-1, eps=1e-12)
