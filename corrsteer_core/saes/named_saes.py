"""The very SAEs that a run or a steering set names."""

from __future__ import annotations

from collections.abc import Sequence

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.saes.sae import Sae, load_saes


def saes_of(refs: Sequence[SaeRef], model: Model) -> list[Sae]:
    """The very SAEs that a run or a set names. Raises CorrSteerError if one has changed since."""
    saes = load_saes([ref.source for ref in refs], model)
    for ref in refs:
        if not any(sae.layer == ref.layer and sae.fingerprint == ref.fingerprint for sae in saes):
            raise CorrSteerError(f"The SAE {ref.source} of layer {ref.layer} is not the one that was used before.")
    return saes
