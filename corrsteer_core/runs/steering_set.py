"""Steering sets: which features to add, how strongly, tied to one model and its SAEs.

A steering set is a value: it can be scaled, negated, added, saved and loaded (`2 * v`, `-v`, `v + w`).
What it adds to a model is made of it in `engine.steering`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any, Self

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import not_written, write_text
from corrsteer_core.runs.prompt_style import PromptStyle

FORMAT = "corrsteer-steering-set"
VERSION = 1


@dataclass(frozen=True)
class SaeRef:
    """The SAE a set's features belong to."""

    layer: int
    source: str
    hook_name: str
    fingerprint: str
    d_sae: int


@dataclass(frozen=True)
class SteeringRow:
    """One feature of a set. `coefficient` is in units of the feature's activation, its sign included."""

    layer: int
    feature: int
    coefficient: float
    enabled: bool = True
    note: str = ""
    """Where the row comes from, in words (r, effect, scale), for people."""


@dataclass(frozen=True)
class SteeringSet:
    """Rows of features with a global scale, tied to one model and one set of SAEs.

    What `a * v + b * w` adds to a model is a times what v adds plus b times what w adds.
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
            where = f"feature {row.feature} of layer {row.layer} in the steering set {self.name!r}"
            if row.layer not in by_layer:
                known = ", ".join(map(str, sorted(by_layer))) or "none"
                raise CorrSteerError(f"There is no SAE for {where}; its SAEs are of layers {known}.")
            if not 0 <= row.feature < by_layer[row.layer].d_sae:
                raise CorrSteerError(f"There is no {where}; features go from 0 to {by_layer[row.layer].d_sae - 1}.")
            if not math.isfinite(row.coefficient):
                raise CorrSteerError(f"The coefficient of {where} is {row.coefficient}; give a finite number.")
            if (row.layer, row.feature) in seen:
                raise CorrSteerError(f"There are two rows for {where}; keep one.")
            seen.add((row.layer, row.feature))

    def scaled(self, factor: float) -> Self:
        """The set with its global scale multiplied. Raises CorrSteerError for a scale that is no finite number."""
        return replace(self, scale=self.scale * factor)

    def __mul__(self, factor: object) -> Self:
        return self.scaled(float(factor)) if isinstance(factor, Real) else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> Self:
        return self.scaled(-1.0)

    def __add__(self, other: object) -> Self:
        """A set that adds what both add: scales are multiplied in, rows of one feature become one, none that is 0 is left.

        Rows that are switched off add nothing, so they are left out. Sets of two runs, tasks or prompt styles have a
        sum that belongs to no run or task; it puts prompts as the first of them does. Raises CorrSteerError for sets of
        two models, or of two SAEs at one layer.
        """
        return _sum(self, other) if isinstance(other, SteeringSet) else NotImplemented

    def __sub__(self, other: object) -> Self:
        return _sum(self, -other, "-") if isinstance(other, SteeringSet) else NotImplemented

    def with_rows(self, rows: Sequence[SteeringRow], name: str | None = None) -> Self:
        """The same model, SAEs and scale with other rows."""
        return replace(self, rows=tuple(rows), name=self.name if name is None else name)

    @property
    def content(self) -> str:
        """A short hash of what the set adds at scale 1 and of how it puts prompts; its name and notes do not count."""
        rows = sorted((row.layer, row.feature, row.coefficient) for row in self.active_rows)
        saes = [(sae.layer, sae.fingerprint) for sae in self.active_saes]
        body = [self.model_fingerprint, saes, rows, asdict(self.style)]
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()[:8]

    @property
    def active_rows(self) -> tuple[SteeringRow, ...]:
        return tuple(row for row in self.rows if row.enabled)

    @property
    def active_saes(self) -> tuple[SaeRef, ...]:
        """The SAEs that the enabled rows need."""
        layers = {row.layer for row in self.active_rows}
        return tuple(sae for sae in self.saes if sae.layer in layers)

    def to_json(self, evidence: Mapping[str, Any] | None = None) -> str:
        """The set as JSON: model, SAEs with hook points, features, coefficients, scale; beside it what proves its effect."""
        body = asdict(self)
        body["rows"] = [asdict(row) for row in self.rows]
        body |= {} if evidence is None else {"evidence": dict(evidence)}
        return json.dumps({"format": FORMAT, "version": VERSION, **body}, indent=1, allow_nan=False)

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
        if (version := body.pop("version", None)) != VERSION:
            raise CorrSteerError(f"{where} has version {version!r}; this tool reads version {VERSION}.")
        body.pop("evidence", None)  # of the set, not in it: see proof.evidence
        try:
            body["saes"] = tuple(_typed(SaeRef, sae) for sae in body["saes"])
            body["rows"] = tuple(_typed(SteeringRow, row) for row in body["rows"])
            style = dict(body["style"])
            shots = style.get("shots", ())
            style["shots"] = tuple((_text("shots", prompt), _text("shots", answer)) for prompt, answer in shots)
            body["style"] = _typed(PromptStyle, style)
            return _typed(cls, body)
        except (KeyError, TypeError, ValueError) as error:
            raise CorrSteerError(f"{where} has a missing or wrong field: {error}") from error


def _sum(one: Any, other: SteeringSet, sign: str = "+") -> Any:
    """See `SteeringSet.__add__`."""
    _check_alike(one, other)
    totals: dict[tuple[int, int], float] = {}
    notes: dict[tuple[int, int], str] = {}
    for of in (one, other):
        for row in of.active_rows:
            place = (row.layer, row.feature)
            totals[place] = totals.get(place, 0.0) + of.scale * row.coefficient
            notes.setdefault(place, row.note)
    rows = tuple(SteeringRow(*place, total, note=notes[place]) for place, total in totals.items() if total)
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


def _typed(kind: Any, body: Any):
    """Build a dataclass from JSON, refusing unknown fields and values of another type than it declares."""
    if not isinstance(body, dict):
        raise TypeError(f"{kind.__name__} must be an object, not {_shown(body)}")
    declared: dict[str, Any] = {one.name: one.type for one in fields(kind)}
    return kind(
        **{name: _value(f"{kind.__name__}.{name}", declared.get(name, ""), value) for name, value in body.items()}
    )


def _value(where: str, declared: str, value: Any) -> Any:
    """A field's value, if it is of the type that is declared for it; a whole number becomes a float where one is."""
    if declared == "str":
        return _text(where, value)
    expected: Any = {"int": int, "float": (int, float), "bool": bool}.get(declared, object)
    if not isinstance(value, expected) or (isinstance(value, bool) and declared in ("int", "float")):
        raise TypeError(f"{where} must be {declared}, not {_shown(value)}")
    if declared != "float":
        return value
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{where} is too large for a number") from error


def _text(where: str, value: Any) -> str:
    """Text that can be written to a file or a database."""
    if not isinstance(value, str):
        raise TypeError(f"{where} must be str, not {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} has half a surrogate pair; write the character whole") from error
    return value


def _shown(value: Any) -> str:
    return repr(value)[:60]
