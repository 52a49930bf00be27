"""What rows of a set do that is more than adding a constant: clamp, cap, ablate, and conditions.

`runs.sets.rows` says what each does. Here it is done to activations during one forward pass: at each hook point the
activation is read as it comes, before any row changes it; then all changes are added to it at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from corrsteer_core.models.hooks import Action, HookPoint, Site
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.sets.rows import Firing, SaeRef, SteeringRow
from corrsteer_core.saes.sae import Sae, ref_of

READING = ("clamp", "cap")
"""Operations that depend on the feature's activation."""
SMALLEST = 1e-6
"""Of the singular values of ablated directions, as a share of the largest: less than this is no direction of its own."""

Where = Tensor | tuple[int | slice, ...]
"""Which positions of an activation: an index of it, so that activation[where] is (n, d)."""


@dataclass(frozen=True, eq=False)
class Acting:
    """What a set does at one hook point where some row does not just add."""

    sae: Sae
    constant: Tensor
    """(d,) float32: the sum of what its plain rows add."""
    rows: tuple[SteeringRow, ...]
    """The others; coefficients of additions with the scale in them."""
    directions: Tensor
    """(rows, d) float32."""
    conditions: Mapping[Firing, Sae]
    """What rows wait for, with the SAE that reads it."""
    _bases: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def change(self, x: Tensor, z: Tensor, indices: Tensor, fired: Mapping[Firing, Tensor]) -> Tensor:
        """What is added, beside the constant, to activations (n, d): (n, d) float32.

        `z` (n, d_sae) are the features' activations in them (0 columns where no row asks), `indices` (n,) the number of the
        generated token that each position stands at, `fired` (n,) for each condition whether it holds there.
        """
        x = x.float()
        active = torch.stack([self._active(row, indices, fired) for row in self.rows], 1)  # (n, rows)
        amounts = torch.stack([_amount(row, z, len(x)) for row in self.rows], 1)
        changes = torch.where(active, amounts, 0.0) @ self.directions
        ablating = [place for place, row in enumerate(self.rows) if row.operation == "ablate"]
        return changes - self._taken_out(x, active, ablating) if ablating else changes

    def _active(self, row: SteeringRow, indices: Tensor, fired: Mapping[Firing, Tensor]) -> Tensor:
        """(n,) whether a row acts at each position."""
        started = indices >= row.from_token
        return started if row.while_fires is None else started & fired[row.while_fires].to(started.device)

    def _taken_out(self, x: Tensor, active: Tensor, ablating: Sequence[int]) -> Tensor:
        """The part of activations (n, d) that lies along the directions ablated there."""
        part = torch.zeros_like(x)
        patterns, which = active[:, list(ablating)].cpu().unique(dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns.tolist()):
            places = tuple(place for place, on in zip(ablating, pattern, strict=True) if on)
            if places:
                basis, here = self._basis(places), (which == number).to(x.device)
                part[here] = (x[here] @ basis.T) @ basis
        return part

    def _basis(self, places: tuple[int, ...]) -> Tensor:
        """Orthonormal rows that span some directions."""
        if places not in self._bases:
            found = torch.linalg.svd(self.directions[list(places)].cpu().double(), full_matrices=False)
            keep = SMALLEST * found.S.max() < found.S  # none where a feature has no direction
            self._bases[places] = found.Vh[keep].to(self.directions)
        return self._bases[places]


@dataclass(frozen=True, eq=False)
class Told:
    """What acts at a hook point, told to another process: an `Acting` with its SAEs named."""

    sae: SaeRef
    constant: Tensor
    rows: tuple[SteeringRow, ...]
    directions: Tensor
    conditions: Mapping[Firing, SaeRef]

    def identity(self) -> bytes:
        """All that it does depends on; equal for equal ones in any process."""
        saes = [self.sae.fingerprint, [[asdict(firing), ref.fingerprint] for firing, ref in self.conditions.items()]]
        about = json.dumps([saes, [asdict(row) for row in self.rows]], sort_keys=True)
        return about.encode() + self.directions.cpu().numpy().tobytes()


Vectors = Mapping[HookPoint, Tensor | Acting]
"""One variant's steering: what is added at each hook point, (d,) each; at LOGITS to the logits. Empty: unsteered.

Where a set does more than add a constant, what acts there.
"""


def _amount(row: SteeringRow, z: Tensor, n: int) -> Tensor:
    """(n,) how much of its direction a row adds at each position."""
    if row.operation not in READING:
        return z.new_full((n,), row.coefficient if row.operation == "add" else 0.0)
    own = z[:, row.feature]
    return (own.clamp(max=row.coefficient) if row.operation == "cap" else row.coefficient) - own


def acts(vectors: Vectors) -> bool:
    """Whether a variant does more than add constants."""
    return any(isinstance(one, Acting) for one in vectors.values())


def constant_part(vectors: Vectors) -> dict[HookPoint, Tensor]:
    """What a variant adds wherever it acts, (d,) per hook point."""
    return {point: one.constant if isinstance(one, Acting) else one for point, one in vectors.items()}


def saes_read(vectors: Vectors) -> list[Sae]:
    """The SAEs that a variant reads activations with, or may."""
    acts_there = [one for one in vectors.values() if isinstance(one, Acting)]
    return [sae for one in acts_there for sae in (one.sae, *one.conditions.values())]


def waited_for(vectors: Vectors) -> dict[Firing, Sae]:
    """What rows of a variant wait for, with the SAE that reads it."""
    parts = [one for one in vectors.values() if isinstance(one, Acting)]
    return {firing: sae for one in parts for firing, sae in one.conditions.items()}


def told(vectors: Vectors) -> dict[HookPoint, Tensor | Told]:
    """A variant in plain values."""
    return {point: _told(one) if isinstance(one, Acting) else one for point, one in vectors.items()}


def _told(one: Acting) -> Told:
    # In an order of their own: what rows wait for comes from a set, whose order differs from process to process.
    firings = sorted(one.conditions, key=str)
    conditions = {firing: ref_of(one.conditions[firing]) for firing in firings}
    return Told(ref_of(one.sae), one.constant, one.rows, one.directions, conditions)


def understood(said: Mapping[HookPoint, Tensor | Told], saes: Sequence[Sae]) -> dict[HookPoint, Tensor | Acting]:
    """The variant that `told` made plain values of; `saes` are those that it names, among others."""
    by_ref = {ref_of(sae): sae for sae in saes}

    def acting_of(one: Told) -> Acting:
        conditions = {firing: by_ref[ref] for firing, ref in one.conditions.items()}
        return Acting(by_ref[one.sae], one.constant, one.rows, one.directions, conditions)

    return {point: acting_of(one) if isinstance(one, Told) else one for point, one in said.items()}


def acting(model: Model, vectors: Vectors, where: Where, index: int | Tensor) -> dict[Site, Action]:
    """Actions for one forward pass: what a variant does at some positions beside adding its constants.

    `index` is the number of the generated token that they stand at, or (n,) of each; 0 is the last prompt token.
    """
    parts = {point: one for point, one in vectors.items() if isinstance(one, Acting)}
    conditions = waited_for(vectors)
    fired: dict[Firing, Tensor] = {}
    saes = {sae.point: sae for sae in conditions.values()} | {point: one.sae for point, one in parts.items()}

    def action_at(point: HookPoint, sae: Sae) -> Action:
        firings = [firing for firing, of in conditions.items() if of.point == point]
        part = parts.get(point)
        reads = bool(firings) or any(row.operation in READING for row in part.rows)  # type: ignore[union-attr]

        def action(activation: Tensor) -> Tensor | None:
            at = where.to(activation.device) if isinstance(where, Tensor) else where
            x = activation[at].to(sae.device)
            if not len(x):
                return None
            z = sae.encode(x) if reads else x.new_zeros((len(x), 0), dtype=torch.float32)
            fired.update({firing: z[:, firing.feature] > firing.above for firing in firings})
            if part is None:
                return None
            indices = torch.as_tensor(index, device=x.device).expand(len(x))
            changed = activation.clone()
            new = x.float() + part.change(x, z, indices, fired)
            changed[at] = new.to(activation.device, activation.dtype)
            return changed

        return action

    return {model.site(point): action_at(point, sae) for point, sae in saes.items()}
