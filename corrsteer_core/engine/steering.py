"""From a steering set to vectors, and vectors added to a model while it generates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.operations import Acting, Vectors, acting, constant_part
from corrsteer_core.models.hooks import Action, HookPoint, hooked, together
from corrsteer_core.models.loading import Model, load_model
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet
from corrsteer_core.runs.stored_run import stored
from corrsteer_core.saes.sae import Sae
from corrsteer_core.storage.run_folder import is_cached


def model_of(steering: SteeringSet, report: Callable[[str], None] = lambda message: None) -> Model:
    """A set's model, in the arithmetic that its run was made in: its numbers are to be the same ones."""
    cached = bool(steering.run) and is_cached(steering.run)
    return load_model(steering.model, like=stored(steering.run)[0].dtype if cached else "", report=report)


def vectors_of(steering: SteeringSet, saes: Sequence[Sae]) -> dict[HookPoint, Tensor]:
    """The steering vector per hook point, (d,) float32: sum over enabled rows of scale x coefficient x direction.

    Raises CorrSteerError when the SAEs are not the set's own, for a vector that is too long to compute with, and for a set
    that does more, or less, than add vectors at every generation position.
    """
    if row := steering.not_plain:
        raise CorrSteerError(
            f"What the steering set {steering.name!r} does is no fixed vector per layer: its row for feature {row.feature} of layer "
            f"{row.layer} does not just add ({row.does}); switch that row off."
        )
    vectors = variant_of(steering, saes)
    return {point: vector for point, vector in vectors.items() if isinstance(vector, Tensor)}


def variant_of(steering: SteeringSet, saes: Sequence[Sae]) -> dict[HookPoint, Tensor | Acting]:
    """What a set does per hook point, for the engine: a vector (d,) where its rows just add, else all that acts there.

    Raises CorrSteerError when the SAEs are not the set's own, and for what is too long to compute with.
    """
    by_layer = {sae.layer: sae for sae in saes}
    found: dict[HookPoint, Tensor | Acting] = {}
    for layer in sorted({row.layer for row in steering.active_rows}):
        sae = _own(steering, by_layer, layer)
        rows = [row for row in steering.active_rows if row.layer == layer]
        vector = _added(steering, sae, [row for row in rows if row.plain])
        others = [row for row in rows if not row.plain] if steering.scale else []
        found[sae.point] = _acting(steering, by_layer, sae, others, vector) if others else vector
    return found


def _added(steering: SteeringSet, sae: Sae, rows: Sequence[SteeringRow]) -> Tensor:
    """What rows of one layer add together."""
    if not rows:
        return torch.zeros(sae.d_in, device=sae.device)
    weights = torch.tensor([steering.scale * row.coefficient for row in rows], device=sae.device)
    vector = weights @ sae.directions([row.feature for row in rows])
    _check_length(steering, sae, vector)
    return vector


def _check_length(steering: SteeringSet, sae: Sae, vector: Tensor) -> None:
    # A model squares what it reads; what is no number then would reach the unsteered answer beside it too.
    if not vector.square().sum().isfinite():
        raise CorrSteerError(
            f"The vector of {steering.name!r} at {sae.point.name} is too long for a float32 number; lower its coefficients."
        )


def _acting(
    steering: SteeringSet, by_layer: dict[int, Sae], sae: Sae, rows: Sequence[SteeringRow], constant: Tensor
) -> Acting:
    """What rows of one layer do that do not just add, `constant` beside them."""
    made = [
        replace(row, coefficient=steering.scale * row.coefficient) if row.operation == "add" else row for row in rows
    ]
    directions = sae.directions([row.feature for row in made]).clone()
    for row, direction in zip(made, directions, strict=True):
        _check_length(steering, sae, row.coefficient * direction)
    firings = {row.while_fires for row in made} - {None}
    conditions = {firing: _own(steering, by_layer, firing.layer) for firing in firings if firing}
    return Acting(sae, constant, tuple(made), directions, conditions)


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
def steered(model: Model, vectors: Vectors) -> Iterator[None]:
    """Steer transformers' own `generate` while the context is open, at generation positions only.

    Vectors are (d,) in residual units, or what `variant_of` makes of a set. Of every forward pass the last position is steered: in the
    pass over the (left-padded) prompt that is the last prompt token, afterwards each new token, of
    every row (beams and samples are rows). Passes whose generation positions would be others are
    refused with a CorrSteerError: padding on the right, no cache of keys and values, several tokens
    after the prompt; where a row acts from a generated token on, also a cache from before.
    """

    def adding(vector: Tensor) -> Action:
        def action(activation: Tensor) -> Tensor:
            activation = activation.clone()
            activation[:, -1] += vector.to(activation.device, activation.dtype)
            return activation

        return action

    sites = {model.site(point): adding(vector) for point, vector in constant_part(vectors).items()}
    passes = _Passes(
        counted=any(row.from_token for one in vectors.values() if isinstance(one, Acting) for row in one.rows)
    )
    watch = model.net.register_forward_pre_hook(passes.check, with_kwargs=True)
    last = (slice(None), -1)
    try:
        with hooked(together(acting(model, vectors, last, passes.index), sites)):
            yield
    finally:
        watch.remove()


class _Passes:
    """Watches the passes of a model: refuses those where not just the last position generates, and counts the others."""

    def __init__(self, *, counted: bool) -> None:
        self.counted = counted
        """Whether it matters which generated token a pass reads."""
        self.index = torch.tensor(0)
        """Of the pass at hand: 0 reads the prompt, 1 the first generated token, ..."""
        self._before: Tensor | None = None  # what the pass before read, if it kept no keys and values
        self._kept = 0  # keys and values that there are after the pass before

    def check(self, _net: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """A hook before each pass; raises CorrSteerError."""
        ids = args[0] if args else kwargs.get("input_ids")
        ids = kwargs.get("inputs_embeds") if ids is None else ids
        mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
        read = 0 if cache is None else int(cache.get_seq_length())
        if isinstance(mask, Tensor) and mask.dim() == 2 and not bool(mask[:, -1].all()):
            raise CorrSteerError(
                "A prompt is padded on the right, where steering acts; set tokenizer.padding_side = 'left' and tokenize again."
            )
        if read and ids is not None and ids.shape[1] > 1:
            raise CorrSteerError(
                f"The model reads {ids.shape[1]} tokens at once after others, and which of them to steer cannot be known; "
                f"generate without an assistant model, without chunks of the prompt, and without a cache from before."
            )
        if self._before is not None and ids is not None and _goes_on(ids, self._before):
            raise CorrSteerError(
                "The model generates without a cache of keys and values, so steering would miss the tokens before the "
                "last; generate with use_cache=True."
            )
        if read and self.counted and read != self._kept:
            raise CorrSteerError(
                "A row acts from a generated token on, and the model goes on from a cache from before, so which token it "
                "is at cannot be known; let generate read the whole prompt."
            )
        self.index += 1 if read else -self.index
        self._before = ids if cache is None else None
        self._kept = read + (0 if ids is None else ids.shape[1])


def _goes_on(ids: Tensor, before: Tensor) -> bool:
    """Whether every row is one of the rows before with one token more."""
    if ids.dim() != 2 or before.dim() != 2 or ids.shape[1] != before.shape[1] + 1:
        return False
    return bool((ids[:, None, :-1] == before[None]).all(-1).any(1).all())
