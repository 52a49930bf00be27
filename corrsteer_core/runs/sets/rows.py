"""One row of a steering set: a feature, what is done with it, and where.

A row acts at generation positions only. Let x be the activation there as it comes, z the feature's activation in it (as its
SAE encodes x), d its direction:

    add     x + scale x coefficient x d
    clamp   x + (coefficient - z) d             the feature is held at the coefficient
    cap     x + (min(z, coefficient) - z) d     ... at most at the coefficient
    ablate  x - (x.d / d.d) d                   the direction is taken out

All rows of a layer read the same x; what they change is added up (several ablated directions go out together, so that x has
nothing left of any). The scale multiplies additions alone; at scale 0 no row does anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.typed_json import typed

OPERATIONS = ("add", "clamp", "ablate", "cap")
LATEST_START = 1_000_000
"""Of the generated tokens that a row can begin to act from."""


@dataclass(frozen=True)
class SaeRef:
    """The SAE a set's features belong to."""

    layer: int
    source: str
    hook_name: str
    fingerprint: str
    d_sae: int


@dataclass(frozen=True)
class Firing:
    """A feature being active: its activation, as it comes at the position at hand, is above a number."""

    layer: int
    feature: int
    above: float = 0.0

    def __str__(self) -> str:
        return f"feature {self.feature} of layer {self.layer} is above {self.above:g}"


@dataclass(frozen=True)
class SteeringRow:
    """One feature of a set. `coefficient` is in units of the feature's activation, its sign included."""

    layer: int
    feature: int
    coefficient: float
    enabled: bool = True
    note: str = ""
    """Where the row comes from, in words (r, effect, scale), for people."""
    operation: str = "add"
    """One of OPERATIONS; ablating asks for no coefficient."""
    from_token: int = 0
    """Acts from this generated token on: 0 is the last prompt token, 1 the first token that is generated."""
    while_fires: Firing | None = None
    """Acts only at positions where this feature, of the same layer or an earlier one, is active."""

    @property
    def plain(self) -> bool:
        """Whether it adds, at every generation position."""
        return self.operation == "add" and not self.from_token and self.while_fires is None

    @property
    def does(self) -> str:
        """What it does, in words: "clamp to 4, from generated token 3 on"."""
        by = {"add": f" {self.coefficient:g}", "clamp": f" to {self.coefficient:g}", "cap": f" at {self.coefficient:g}"}
        return ", ".join(filter(None, (self.operation + by.get(self.operation, ""), self.when)))

    @property
    def when(self) -> str:
        """When it acts, in words: "from generated token 3 on"; empty for a row that acts at every generation position."""
        start = f"from generated token {self.from_token} on" if self.from_token else ""
        firing = f"while {self.while_fires}" if self.while_fires else ""
        return ", ".join(filter(None, (start, firing)))

    @property
    def body(self) -> dict[str, Any]:
        """The row as JSON; what is as usual of the fields that came later is left out."""
        found = asdict(self)
        usual = {"operation": "add", "from_token": 0, "while_fires": None}
        return {name: value for name, value in found.items() if name not in usual or value != usual[name]}


def where_is(row: SteeringRow, name: str) -> str:
    """A row and its set, for a sentence that says what is wrong with it."""
    return f"feature {row.feature} of layer {row.layer} in the steering set {name!r}"


def check_row(row: SteeringRow, by_layer: Mapping[int, SaeRef], name: str) -> None:
    """Raise CorrSteerError for a row that a set cannot have."""
    where = where_is(row, name)
    _check_feature(row, by_layer, where)
    if not math.isfinite(row.coefficient):
        raise CorrSteerError(f"The coefficient of {where} is {row.coefficient}; give a finite number.")
    if row.operation not in OPERATIONS:
        raise CorrSteerError(
            f"There is no operation {row.operation[:40]!r}, asked for {where}; known are {', '.join(OPERATIONS)}."
        )
    if not 0 <= row.from_token <= LATEST_START:
        raise CorrSteerError(
            f"The row for {where} acts from generated token {str(row.from_token)[:20]} on; give a number from 0 to {LATEST_START:,}."
        )
    if row.while_fires is not None:
        _check_firing(row, row.while_fires, by_layer, where)


def _check_feature(of: SteeringRow | Firing, by_layer: Mapping[int, SaeRef], where: str) -> None:
    if of.layer not in by_layer:
        known = ", ".join(map(str, sorted(by_layer))) or "none"
        raise CorrSteerError(f"There is no SAE for {where}; its SAEs are of layers {known}.")
    if not 0 <= of.feature < by_layer[of.layer].d_sae:
        raise CorrSteerError(f"There is no {where}; features go from 0 to {by_layer[of.layer].d_sae - 1}.")


def _check_firing(row: SteeringRow, fires: Firing, by_layer: Mapping[int, SaeRef], where: str) -> None:
    """Raise CorrSteerError for a condition that cannot be known where the row acts."""
    _check_feature(
        fires, by_layer, f"feature {fires.feature} of layer {fires.layer}, which the row for {where} waits for"
    )
    if fires.layer > row.layer:
        raise CorrSteerError(
            f"The row for {where} waits for feature {fires.feature} of layer {fires.layer}, which comes later; choose one of "
            f"layer {row.layer} or before."
        )
    if not (math.isfinite(fires.above) and fires.above >= 0):
        raise CorrSteerError(
            f"The row for {where} waits for an activation above {fires.above:g}; give a number of 0 or more."
        )


def row_of(body: Any) -> SteeringRow:
    """A row from JSON. Raises TypeError and ValueError as `typed` does."""
    if isinstance(body, dict) and body.get("while_fires") is not None:
        body = {**body, "while_fires": typed(Firing, body["while_fires"])}
    return typed(SteeringRow, body)


def hashed(row: SteeringRow) -> tuple[Any, ...]:
    """What of a row says what it does; for one that just adds, as it was before there was anything else."""
    coefficient = 0.0 if row.operation == "ablate" else row.coefficient
    found = (row.layer, row.feature, coefficient)
    fires = row.while_fires
    condition = [fires.layer, fires.feature, fires.above] if fires else None
    return found if row.plain else (*found, row.operation, row.from_token, condition)
