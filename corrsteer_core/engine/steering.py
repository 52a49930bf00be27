"""From a steering set to vectors, and vectors added to a model while it generates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.hooks import Action, HookPoint, hooked
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.saes.sae import Sae


def vectors_of(steering: SteeringSet, saes: Sequence[Sae]) -> dict[HookPoint, Tensor]:
    """The steering vector per hook point, (d,) float32: sum over enabled rows of scale x coefficient x direction.

    Raises CorrSteerError when the SAEs are not the set's own, and for a vector that is too long to compute with.
    """
    by_layer = {sae.layer: sae for sae in saes}
    vectors: dict[HookPoint, Tensor] = {}
    for layer in sorted({row.layer for row in steering.active_rows}):
        sae = _own(steering, by_layer, layer)
        rows = [row for row in steering.active_rows if row.layer == layer]
        weights = torch.tensor([steering.scale * row.coefficient for row in rows], device=sae.net.device)
        vectors[sae.point] = weights @ sae.directions([row.feature for row in rows])
        # A model squares what it reads; what is no number then would reach the unsteered answer beside it too.
        if not vectors[sae.point].square().sum().isfinite():
            raise CorrSteerError(
                f"The vector of {steering.name!r} at {sae.point.name} is too long for a float32 number; lower its coefficients."
            )
    return vectors


def _own(steering: SteeringSet, by_layer: dict[int, Sae], layer: int) -> Sae:
    ref = next(sae for sae in steering.saes if sae.layer == layer)
    sae = by_layer.get(layer)
    if sae is None:
        raise CorrSteerError(
            f"The steering set {steering.name!r} needs the SAE {ref.source} of layer {layer}; load it."
        )
    if (sae.fingerprint, sae.d_sae) != (ref.fingerprint, ref.d_sae):
        raise CorrSteerError(
            f"The steering set {steering.name!r} was made with another SAE for layer {layer} ({ref.source}, "
            f"{ref.fingerprint}) than {sae.source} ({sae.fingerprint})."
        )
    return sae


def check_model(steering: SteeringSet, model: Model) -> None:
    """Raise CorrSteerError when a set was made for another model."""
    if model.fingerprint != steering.model_fingerprint:
        same = " (same name, other weights)" if model.name == steering.model else ""
        raise CorrSteerError(
            f"The steering set {steering.name!r} belongs to {steering.model} ({steering.model_fingerprint}), but the loaded model "
            f"is {model.name} ({model.fingerprint}){same}."
        )


@contextmanager
def steered(model: Model, vectors: Mapping[HookPoint, Tensor]) -> Iterator[None]:
    """Steer transformers' own `generate` while the context is open, at generation positions only.

    Vectors are (d,) in residual units. Of every forward pass the last position is steered: in the
    pass over the (left-padded) prompt that is the last prompt token, afterwards each new token, of
    every row (beams and samples are rows). Passes whose generation positions would be others are
    refused with a CorrSteerError: padding on the right, no cache of keys and values, several tokens
    after the prompt.
    """

    def adding(vector: Tensor) -> Action:
        def action(activation: Tensor) -> Tensor:
            activation = activation.clone()
            activation[:, -1] += vector.to(activation.device, activation.dtype)
            return activation

        return action

    sites = {model.site(point): adding(vector) for point, vector in vectors.items()}
    watch = model.net.register_forward_pre_hook(_last_is_the_one(), with_kwargs=True)
    try:
        with hooked(sites):
            yield
    finally:
        watch.remove()


def _last_is_the_one() -> Callable[[nn.Module, tuple, dict[str, Any]], None]:
    """A hook before each pass of a model: raises CorrSteerError where not just the last position generates."""
    before: list[Tensor] = []  # what the pass before read, if it kept no keys and values

    def check(_net: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs.get("input_ids")
        ids = kwargs.get("inputs_embeds") if ids is None else ids
        mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
        if isinstance(mask, Tensor) and mask.dim() == 2 and not bool(mask[:, -1].all()):
            raise CorrSteerError(
                "A prompt is padded on the right, where steering acts; set tokenizer.padding_side = 'left' and tokenize again."
            )
        if cache is not None and int(cache.get_seq_length()) and ids is not None and ids.shape[1] > 1:
            raise CorrSteerError(
                f"The model reads {ids.shape[1]} tokens at once after others, and which of them to steer cannot be known; "
                f"generate without an assistant model, without chunks of the prompt, and without a cache from before."
            )
        if before and ids is not None and _goes_on(ids, before[0]):
            raise CorrSteerError(
                "The model generates without a cache of keys and values, so steering would miss the tokens before the "
                "last; generate with use_cache=True."
            )
        before[:] = [ids] if cache is None and ids is not None else []

    return check


def _goes_on(ids: Tensor, before: Tensor) -> bool:
    """Whether every row is one of the rows before with one token more."""
    if ids.dim() != 2 or before.dim() != 2 or ids.shape[1] != before.shape[1] + 1:
        return False
    return bool((ids[:, None, :-1] == before[None]).all(-1).any(1).all())
