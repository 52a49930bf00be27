"""What one set is compared with: random sets of like size, its sign turned round, sets chosen alike among random features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.evaluation import controls
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.runs.stored_run import features_of, fit_summary
from corrsteer_core.saes.sae import Sae
from corrsteer_core.storage.run_folder import is_cached


@dataclass(frozen=True)
class Rivals:
    """What a set is compared with."""

    controls: tuple[SteeringSet, ...]
    matched: tuple[SteeringSet, ...]

    @property
    def every(self) -> tuple[SteeringSet, ...]:
        """All of them, the controls first."""
        return (*self.controls, *self.matched)


def rivals_of(
    steering: SteeringSet, saes: Sequence[Sae], count: int, seed: int, matched: Sequence[SteeringSet]
) -> Rivals:
    """A set's `count` random sets and its sign turned round, and `matched` at its own scale. Raises CorrSteerError as `_controls`."""
    return Rivals(
        tuple(_controls(steering, saes, count, seed)), tuple(replace(one, scale=steering.scale) for one in matched)
    )


def frequencies(steering: SteeringSet, rivals: Sequence[SteeringSet]) -> dict[str, tuple[float, ...]]:
    """How often the features of the set and of its rivals fire; empty without rivals."""
    if not rivals or not is_cached(steering.run):
        return {}
    features = features_of(steering.run)
    return {one.name: controls.frequencies(one, features) for one in (replace(steering, name=""), *rivals)}


def _controls(steering: SteeringSet, saes: Sequence[Sae], count: int, seed: int) -> list[SteeringSet]:
    if count < 1 or not steering.active_rows:
        return []
    if not (steering.run and is_cached(steering.run)):
        raise CorrSteerError(
            f"Random controls need the frequencies of the run {steering.run or '(none)'}, which is not cached; "
            f"evaluate without controls or collect the run first."
        )
    features, floor = features_of(steering.run), int(fit_summary(steering.run)["floor"])
    random = controls.random_like(steering, features, saes, count=count, floor=floor, seed=seed)
    return [*random, controls.flipped(steering)]
