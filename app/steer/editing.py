"""The steering set that a tab is working on: every change is a new value, so that undo is looking back and redo ahead.

Pure: no page, no file, no model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import Firing, SteeringRow, SteeringSet
from corrsteer_core.runs.strategies import STRATEGIES

REMEMBERED = 200
"""Changes that can be undone."""
EDITED = " (edited)"
LONGEST_FILE = 2_000_000  # bytes
STRONGEST = 1e6
"""Of the coefficients that the page can show, either way from 0."""
LARGEST_SCALE = 100.0
"""Of the global scales that the page can show, either way from 0."""


@dataclass(frozen=True)
class _State:
    current: SteeringSet
    start: SteeringSet


@dataclass
class Editor:
    """A set, what it started from, the way back, and the way on again after steps back."""

    current: SteeringSet
    start: SteeringSet
    _past: list[_State] = field(default_factory=list)
    _future: list[_State] = field(default_factory=list)

    @classmethod
    def of(cls, steering: SteeringSet) -> Editor:
        return cls(steering, steering)

    def copied(self) -> Editor:
        """Another editor at the same place with the same way back and on."""
        return Editor(self.current, self.start, [*self._past], [*self._future])

    @property
    def edited(self) -> bool:
        """Whether the set differs from what it started from."""
        return self.current != self.start

    @property
    def can_undo(self) -> bool:
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        return bool(self._future)

    def load(self, steering: SteeringSet) -> None:
        """Start from another set."""
        if steering != self.current or steering != self.start:
            self._remember()
            self.current = self.start = steering

    def undo(self) -> None:
        """Take the last change back."""
        self._step(self._past, self._future)

    def redo(self) -> None:
        """Make the change again that was taken back last."""
        self._step(self._future, self._past)

    def _step(self, whence: list[_State], where: list[_State]) -> None:
        """Be as the last of one way has it; the other way leads back here."""
        if whence:
            where.append(_State(self.current, self.start))
            last = whence.pop()
            self.current, self.start = last.current, last.start

    def reset(self) -> None:
        """Go back to what the set started from (which can be undone too)."""
        self._become(self.start)

    def rescale(self, scale: float) -> None:
        """Set the global scale."""
        self._become(replace(self.current, scale=float(scale)))

    def strengthen(self, layer: int, feature: int, coefficient: float) -> None:
        """Give one row another coefficient."""
        self._row(layer, feature, lambda row: replace(row, coefficient=float(coefficient)))

    def operate(self, layer: int, feature: int, operation: str) -> None:
        """Do something else with the feature of one row; its coefficient stays."""
        self._row(layer, feature, lambda row: replace(row, operation=operation))

    def wait(self, layer: int, feature: int, from_token: int, while_fires: Firing | None) -> None:
        """Say when one row acts. Raises CorrSteerError for a condition that cannot be."""
        self._row(layer, feature, lambda row: replace(row, from_token=from_token, while_fires=while_fires))

    def switch(self, layer: int, feature: int, enabled: bool) -> None:
        """Switch one row on or off."""
        self._row(layer, feature, lambda row: replace(row, enabled=enabled))

    def remove(self, layer: int, feature: int) -> None:
        """Take one row out."""
        self._row(layer, feature, lambda row: None)

    def add(self, layer: int, feature: int, coefficient: float, note: str = "") -> None:
        """Add a row at the end. Raises CorrSteerError for a feature that is there already or does not exist."""
        if any((row.layer, row.feature) == (layer, feature) for row in self.current.rows):
            raise CorrSteerError(
                f"Feature {feature} of layer {layer} is in the set already; change its coefficient there."
            )
        self._become(
            self.current.with_rows([*self.current.rows, SteeringRow(layer, feature, float(coefficient), note=note)])
        )

    def named(self, name: str) -> SteeringSet:
        """The set under a name of the user's own. Raises CorrSteerError for a name that cannot be used."""
        name = " ".join(name.split())
        if not name or len(name) > 60 or not name.isprintable():
            raise CorrSteerError("Give the set a name of 1 to 60 printable characters.")
        if name in STRATEGIES:
            raise CorrSteerError(f"{name} is the name of an automatic choice; give your own set another name.")
        return replace(self.current, name=name)

    def saved(self, steering: SteeringSet) -> None:
        """What was just saved is what the set now starts from."""
        self._remember()
        self.current = self.start = steering

    def _row(self, layer: int, feature: int, new: Callable[[SteeringRow], SteeringRow | None]) -> None:
        rows = (new(row) if (row.layer, row.feature) == (layer, feature) else row for row in self.current.rows)
        self._become(self.current.with_rows([row for row in rows if row is not None]))

    def _become(self, steering: SteeringSet) -> None:
        # An evaluation is kept under the set's name: what was changed must not pass for the original.
        same = (steering.rows, steering.scale) == (self.start.rows, self.start.scale)
        name = self.start.name if same else self.start.name.removesuffix(EDITED) + EDITED
        steering = replace(steering, name=name)
        if steering != self.current:
            self._remember()
            self.current = steering

    def _remember(self) -> None:
        self._past = [*self._past[1 - REMEMBERED :], _State(self.current, self.start)]
        self._future = []  # what was taken back led elsewhere


def uploaded(content: bytes, file_name: str, run: str, config: RunConfig) -> SteeringSet:
    """A set from an uploaded file, fit for the run at hand. Raises CorrSteerError that says what is wrong."""
    return brought(content, f"The file {file_name}", run, config)


def brought(content: bytes, where: str, run: str, config: RunConfig) -> SteeringSet:
    """A set from outside, fit for the run at hand; `where` begins the sentence that says what is wrong with it."""
    if len(content) > LONGEST_FILE:
        raise CorrSteerError(f"{where} is too large for a steering set; choose a JSON file that this tool saved.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorrSteerError(f"{where} is not text; choose a JSON file that this tool saved.") from error
    steering = SteeringSet.from_json(text, where)
    _check_bounds(steering, where)
    if steering.model_fingerprint != config.model_fingerprint:
        raise CorrSteerError(f"{where} belongs to another model ({steering.model}) than this run's ({config.model}).")
    own = {(sae.layer, sae.fingerprint) for sae in config.saes}
    if unknown := sorted(
        {sae.layer for sae in steering.saes if (sae.layer, sae.fingerprint) not in own} & _used(steering)
    ):
        raise CorrSteerError(f"{where} was made with another SAE for layer {unknown[0]} than this run's.")
    # The run's own model and SAEs: what a file says of where they lie is not followed.
    return replace(steering, model=config.model, saes=config.saes, run=run)


def _check_bounds(steering: SteeringSet, where: str) -> None:
    """Raise CorrSteerError for numbers that the page's own fields could not hold."""
    if abs(steering.scale) > LARGEST_SCALE:
        raise CorrSteerError(
            f"{where} has the global scale {steering.scale:g}; this page takes up to {LARGEST_SCALE:g} either way."
        )
    if strong := [row for row in steering.rows if abs(row.coefficient) > STRONGEST]:
        row = strong[0]
        raise CorrSteerError(
            f"{where} has the coefficient {row.coefficient:g} for feature {row.feature} of layer {row.layer}; this page "
            f"takes up to {STRONGEST:,.0f} either way."
        )
    if high := [row.while_fires for row in steering.rows if row.while_fires and row.while_fires.above > STRONGEST]:
        raise CorrSteerError(f"{where} waits until {high[0]}; this page takes up to {STRONGEST:,.0f}.")


def _used(steering: SteeringSet) -> set[int]:
    waited_for = {row.while_fires.layer for row in steering.rows if row.while_fires}
    return {row.layer for row in steering.rows} | waited_for
