"""From a steering set to vectors, and vectors added to a model while it generates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.hooks import Action, HookPoint, hooked
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.saes.sae import Sae, ref_of


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


def empty_set(model: Model, saes: Sequence[Sae], **named: Any) -> SteeringSet:
    """A set without rows for a model and its SAEs."""
    return SteeringSet(model.name, model.fingerprint, tuple(ref_of(sae) for sae in saes), **named)


@contextmanager
def steered(model: Model, vectors: Mapping[HookPoint, Tensor]) -> Iterator[None]:
    """Steer transformers' own `generate` while the context is open, at generation positions only.

    Vectors are (d,) in residual units. Of every forward pass the last position is steered: in the
    pass over the (left-padded) prompt that is the last prompt token, afterwards each new token.
    """

    def adding(vector: Tensor) -> Action:
        def action(activation: Tensor) -> Tensor:
            activation = activation.clone()
            activation[:, -1] += vector.to(activation.device, activation.dtype)
            return activation

        return action

    with hooked({model.site(point): adding(vector) for point, vector in vectors.items()}):
        yield
