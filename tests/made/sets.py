"""Steering sets for models that are only in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.saes.sae import Sae, ref_of


def empty_set(model: Model, saes: Sequence[Sae], **named: Any) -> SteeringSet:
    """A set without rows for a model and its SAEs."""
    return SteeringSet(model.name, model.fingerprint, tuple(ref_of(sae) for sae in saes), **named)
