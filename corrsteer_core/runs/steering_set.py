"""Steering sets: which features to add, hold or take out, how strongly, tied to one model and its SAEs.

A steering set is a value: it can be scaled, negated, added, saved and loaded (`2 * v`, `-v`, `v + w`).
What a row does is said in `sets.rows`; it is done to a model in `engine`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any, Self

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import not_written, write_text
from corrsteer_core.base.typed_json import text as checked_text
from corrsteer_core.base.typed_json import typed
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.sets.rows import Firing, SaeRef, SteeringRow, check_row, hashed, row_of, where_is

__all__ = ["Firing", "SaeRef", "SteeringRow", "SteeringSet", "load_set", "save_set"]

FORMAT = "corrsteer-steering-set"
VERSION = 1
WITH_OPERATIONS = 2
"""Version of a file in which some row does not just add: tools of before would not know what to do with it."""


@dataclass(frozen=True)
class SteeringSet:
    """Rows of features with a global scale, tied to one model and one set of SAEs.

    What `a * v + b * w` adds to a model is a times what v adds plus b times what w adds; rows that do not add are there as
    they are.
    """

    __array_ufunc__ = None  # a NumPy number times a set is the set's to work out

    model: str
    model_fingerprint: str
    saes: tuple[SaeRef, ...]
    rows: tuple[SteeringRow, ...] = ()
    scale: float = 1.0
    name: str = "by hand"
    run: str = ""
    """The run whose features these are; empty for a set that comes from none."""
    task: str = ""
    style: PromptStyle = field(default_factory=PromptStyle)
    """How prompts were put to the model when the set was fitted."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise CorrSteerError(f"The steering set {self.name!r} has the scale {self.scale}; give a finite number.")
        by_layer = {sae.layer: sae for sae in self.saes}
        seen = set()
        for row in self.rows:
            check_row(row, by_layer, self.name)
            if (row.layer, row.feature) in seen:
                raise CorrSteerError(f"There are two rows for {where_is(row, self.name)}; keep one.")
            seen.add((row.layer, row.feature))

    def scaled(self, factor: float) -> Self:
        """The set with its global scale multiplied.

        Raises CorrSteerError for a scale that is no finite number, and for a factor below 0 where some row does not add.
        """
        if factor < 0 and (row := self.other_than_adding):
            raise CorrSteerError(
                f"The steering set {self.name!r} cannot be turned round: its row for feature {row.feature} of layer "
                f"{row.layer} does not add ({row.does}); switch that row off."
            )
        return replace(self, scale=self.scale * factor)

    def __mul__(self, factor: object) -> Self:
        return self.scaled(float(factor)) if isinstance(factor, Real) else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> Self:
        return self.scaled(-1.0)

    def __add__(self, other: object) -> Self:
        """A set that adds what both add: scales are multiplied in, rows of one feature become one, none that is 0 is left.

        Rows that are switched off do nothing, so they are left out, as are those of a set at scale 0. Sets of two runs,
        tasks or prompt styles have a sum that belongs to no run or task; it puts prompts as the first of them does. Raises
        CorrSteerError for sets of two models, or of two SAEs at one layer, and where two rows of a feature do not make one.
        """
        return _sum(self, other) if isinstance(other, SteeringSet) else NotImplemented

    def __sub__(self, other: object) -> Self:
        return _sum(self, -other, "-") if isinstance(other, SteeringSet) else NotImplemented

    def with_rows(self, rows: Sequence[SteeringRow], name: str | None = None) -> Self:
        """The same model, SAEs and scale with other rows."""
        return replace(self, rows=tuple(rows), name=self.name if name is None else name)

    def with_row(self, row: SteeringRow) -> Self:
        """The set with this row in place of the one of its feature, or at the end."""
        place = (row.layer, row.feature)
        rows = [row if (one.layer, one.feature) == place else one for one in self.rows]
        return self.with_rows(rows if row in rows else [*rows, row])

    @property
    def content(self) -> str:
        """A short hash of what the set does at scale 1 and of how it puts prompts; its name and notes do not count."""
        rows = sorted(hashed(row) for row in self.active_rows)
        saes = [(sae.layer, sae.fingerprint) for sae in self.active_saes]
        body = [self.model_fingerprint, saes, rows, asdict(self.style)]
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()[:8]

    @property
    def active_rows(self) -> tuple[SteeringRow, ...]:
        return tuple(row for row in self.rows if row.enabled)

    @property
    def not_plain(self) -> SteeringRow | None:
        """The first enabled row that does more, or less, than add at every generation position; None if all do just that."""
        return next((row for row in self.active_rows if not row.plain), None)

    @property
    def other_than_adding(self) -> SteeringRow | None:
        """The first enabled row that does not add; None if all do."""
        return next((row for row in self.active_rows if row.operation != "add"), None)

    @property
    def active_saes(self) -> tuple[SaeRef, ...]:
        """The SAEs that the enabled rows need, those of their conditions too."""
        layers = {row.layer for row in self.active_rows}
        layers |= {row.while_fires.layer for row in self.active_rows if row.while_fires}
        return tuple(sae for sae in self.saes if sae.layer in layers)

    def to_json(self, evidence: Mapping[str, Any] | None = None) -> str:
        """The set as JSON: model, SAEs with hook points, features, coefficients, scale; beside it what proves its effect."""
        body = asdict(self)
        body["rows"] = [row.body for row in self.rows]
        body |= {} if evidence is None else {"evidence": dict(evidence)}
        version = VERSION if all(row.plain for row in self.rows) else WITH_OPERATIONS
        return json.dumps({"format": FORMAT, "version": version, **body}, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: str = "the steering set") -> Self:
        """Read `to_json`'s text, checking every field. Raises CorrSteerError that names what is wrong."""
        try:
            body = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise CorrSteerError(f"{where} is not JSON: {error}") from error
        except ValueError as error:
            raise CorrSteerError(f"{where} is not JSON: it has a number of thousands of digits.") from error
        if not isinstance(body, dict) or body.pop("format", None) != FORMAT:
            raise CorrSteerError(f'{where} is not a steering set: it lacks "format": "{FORMAT}".')
        if (version := body.pop("version", None)) not in (VERSION, WITH_OPERATIONS):
            raise CorrSteerError(
                f"{where} has version {version!r}; this tool reads versions {VERSION} and {WITH_OPERATIONS}."
            )
        body.pop("evidence", None)  # of the set, not in it: see proof.evidence
        try:
            body["saes"] = tuple(typed(SaeRef, sae) for sae in body["saes"])
            body["rows"] = tuple(row_of(row) for row in body["rows"])
            style = dict(body["style"])
            shots = style.get("shots", ())
            style["shots"] = tuple(
                (checked_text("shots", prompt), checked_text("shots", answer)) for prompt, answer in shots
            )
            body["style"] = typed(PromptStyle, style)
            return typed(cls, body)
        except (KeyError, TypeError, ValueError) as error:
            raise CorrSteerError(f"{where} has a missing or wrong field: {error}") from error


def _sum(one: Any, other: SteeringSet, sign: str = "+") -> Any:
    """See `SteeringSet.__add__`."""
    _check_alike(one, other)
    totals: dict[tuple[int, int], SteeringRow] = {}
    for of in (one, other):
        for row in of.active_rows if of.scale else ():
            place = (row.layer, row.feature)
            adds = row.operation == "add"
            scaled = replace(row, coefficient=of.scale * row.coefficient) if adds else row
            totals[place] = _both(totals[place], scaled, (one, other)) if place in totals else scaled
    rows = tuple(row for row in totals.values() if row.coefficient or row.operation != "add")
    by_layer = {sae.layer: sae for sae in (*other.saes, *one.saes)}
    together = (one.run, one.task, one.style) == (other.run, other.task, other.style)
    return replace(
        one,
        saes=tuple(by_layer[layer] for layer in sorted(by_layer)),
        rows=rows,
        scale=1.0,
        name=f"{one.name} {sign} {other.name}",
        run=one.run if together else "",
        task=one.task if together else "",
    )


def _both(row: SteeringRow, more: SteeringRow, sets: Sequence[SteeringSet]) -> SteeringRow:
    """Two rows of one feature as one. Raises CorrSteerError where they do not add under the same condition."""
    same = (row.from_token, row.while_fires) == (more.from_token, more.while_fires)
    if row.operation != "add" or more.operation != "add" or not same:
        raise CorrSteerError(
            f"The steering sets {sets[0].name!r} and {sets[1].name!r} cannot be added: both have a row for feature {row.feature} "
            f"of layer {row.layer}, and they do not make one ({row.does}; {more.does}); switch one of them off."
        )
    return replace(row, coefficient=row.coefficient + more.coefficient)


def _check_alike(one: SteeringSet, other: SteeringSet) -> None:
    """Raise CorrSteerError when what two sets add cannot be added."""
    if one.model_fingerprint != other.model_fingerprint:
        raise CorrSteerError(
            f"The steering sets {one.name!r} and {other.name!r} cannot be added: the first is of {one.model} "
            f"({one.model_fingerprint}), the second of {other.model} ({other.model_fingerprint})."
        )
    known = {sae.layer: sae for sae in one.saes}
    for sae in other.saes:
        mine = known.get(sae.layer, sae)
        if (mine.fingerprint, mine.hook_name, mine.d_sae) != (sae.fingerprint, sae.hook_name, sae.d_sae):
            raise CorrSteerError(
                f"The steering sets {one.name!r} and {other.name!r} cannot be added: at layer {sae.layer} the first has the "
                f"SAE {mine.source} ({mine.fingerprint}), the second {sae.source} ({sae.fingerprint})."
            )


def load_set(path: Path) -> SteeringSet:
    """A steering set from a file. Raises CorrSteerError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CorrSteerError(f"There is no steering set {path}; check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CorrSteerError(f"The steering set {path} could not be read: {error}") from error
    return SteeringSet.from_json(text, str(path))


def save_set(steering: SteeringSet, path: Path) -> None:
    """Write a set as JSON."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, steering.to_json() + "\n")
    except OSError as error:
        raise not_written("The steering set", path, error) from error
