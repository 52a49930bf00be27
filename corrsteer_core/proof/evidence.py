"""What a set's file carries of its measurement: every sample's outcome, and hashes of all that they depend on.

It stands in the file beside the set and is no part of it: a set is the same with and without, and so is its hash.
Loads no model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import not_written, write_text
from corrsteer_core.base.typed_json import typed
from corrsteer_core.reporting.verdict import verdict
from corrsteer_core.runs import measurements
from corrsteer_core.runs.steering_set import SteeringSet, load_set
from corrsteer_core.storage.run_folder import is_cached

FIELD = "evidence"
"""Its place in the file."""
Outcomes = str | list[float]
"""Of the samples in their order: one bit each, in hexadecimal, the first sample highest; numbers where they are graded."""


@dataclass(frozen=True)
class Evidence:
    """One measurement of a set, as its file carries it."""

    content: str
    """Hash of the set that was measured (`SteeringSet.content`); of any other this says nothing."""
    scale: float
    model_fingerprint: str
    sae_fingerprints: list[str]
    """Of the SAEs that the set's features are of, by layer."""
    dtype: str
    """What the model computed in."""
    task: str
    split: str
    max_new_tokens: int
    balance: list[float] | None
    """Share of the first class and seed, where samples were left out to reach it."""
    n: int
    items: str
    """Hash of the samples in their order: ids, prompts, right answers."""
    unsteered: Outcomes
    steered: Outcomes
    unsteered_rate: float
    steered_rate: float
    positive_flips: int
    negative_flips: int
    verdict: str
    sentence: str
    """Of the verdict, which rests on controls too."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(one) for one in (self.scale, self.unsteered_rate, self.steered_rate)):
            raise ValueError("a number in it is not finite")
        if not isinstance(self.sae_fingerprints, list) or not all(
            isinstance(one, str) for one in self.sae_fingerprints
        ):
            raise ValueError(f"sae_fingerprints is {str(self.sae_fingerprints)[:40]!r}")
        if self.balance is not None and (len(self.balance) != 2 or not all(map(_is_number, self.balance))):
            raise ValueError(f"balance is {str(self.balance)[:40]!r}")
        if self.n < 1 or self.max_new_tokens < 1:
            raise ValueError("it has no samples or no answers")
        self.outcomes()

    def outcomes(self) -> np.ndarray:
        """(n, 2): unsteered and steered, each in [0, 1]. Raises ValueError where they are not n."""
        return np.column_stack([unpacked(self.unsteered, self.n), unpacked(self.steered, self.n)])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# --- outcomes and items --------------------------------------------------------------------------


def packed(outcomes: Sequence[float]) -> Outcomes:
    """Outcomes for a file."""
    values = np.asarray(outcomes, dtype=np.float64)
    if np.isin(values, (0.0, 1.0)).all():
        return np.packbits(values.astype(np.uint8)).tobytes().hex()
    return [float(one) for one in values]


def unpacked(kept: Outcomes, n: int) -> np.ndarray:
    """(n,) outcomes from a file. Raises ValueError where they are not n, or none in [0, 1]."""
    if isinstance(kept, str):
        bits = np.frombuffer(bytes.fromhex(kept), dtype=np.uint8)
        if len(bits) != -(-n // 8):
            raise ValueError(f"it has outcomes of {8 * len(bits)} samples in place of {n}")
        return np.unpackbits(bits, count=n).astype(np.float64)
    if not isinstance(kept, list) or len(kept) != n or not all(_is_number(one) and 0 <= one <= 1 for one in kept):
        raise ValueError(f"it has no outcomes of {n} samples")
    return np.asarray(kept, dtype=np.float64)


def digest(samples: pd.DataFrame) -> str:
    """A hash of the samples of a measurement, in their order."""
    rows = [[str(row.sample), str(row.prompt), str(row.target)] for row in samples.itertuples()]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()[:16]


# --- of a measurement, into a file and out of it -------------------------------------------------


def of_measurement(steering: SteeringSet, summary: Mapping[str, Any], samples: pd.DataFrame) -> Evidence | None:
    """The evidence of one measurement of a set; None of one made before it was kept how the samples were chosen."""
    asked = summary.get("asked")
    if not asked or summary["content"] != steering.content:
        return None
    said = verdict(summary)
    return Evidence(
        content=steering.content,
        scale=float(summary["scale"]),
        model_fingerprint=steering.model_fingerprint,
        sae_fingerprints=[sae.fingerprint for sae in steering.active_saes],
        dtype=summary["dtype"],
        task=asked["task"],
        split=summary["split"],
        max_new_tokens=asked["max_new_tokens"],
        balance=asked["balance"],
        n=int(summary["n"]),
        items=digest(samples),
        unsteered=packed(samples["outcome_unsteered"]),
        steered=packed(samples["outcome_steered"]),
        unsteered_rate=summary["unsteered_rate"],
        steered_rate=summary["steered_rate"],
        positive_flips=summary["positive_flips"],
        negative_flips=summary["negative_flips"],
        verdict=said.kind,
        sentence=said.sentence,
    )


def best_row(found: pd.DataFrame, steering: SteeringSet) -> pd.Series | None:
    """Of a run's measurements (`measurements.evaluations`), the one that a set's file carries; None if there is none.

    It is of this very set at its own scale: on its own task before others, on the test split before others, on the
    most samples, the newest.
    """
    own = found[(found["content"] == steering.content) & (found["scale"] == steering.scale)]
    own = own[[bool(one.get("asked")) for one in own["summary"]]]
    if own.empty:
        return None
    order = own.assign(own=own["task"] == steering.task, test=own["split"] == "test")
    return own.loc[order.sort_values(["own", "test", "n", "created"], kind="stable").index[-1]]


def kept_evidence(run: str, steering: SteeringSet) -> Evidence | None:
    """What a run, the set's own, has measured with it; None where it has not, or where the run is not cached."""
    if not run or not is_cached(run):
        return None
    row = best_row(measurements.evaluations(run), steering)
    if row is None:
        return None
    which = (row["name"], row["task"], row["split"], row["scale"], row["content"], int(row["n"]))
    return of_measurement(steering, row["summary"], measurements.evaluated_samples(run, *which))


def set_text(steering: SteeringSet, evidence: Evidence | None) -> str:
    """The set's file, with what is known of its measurement."""
    return steering.to_json(None if evidence is None else asdict(evidence)) + "\n"


def save_set(steering: SteeringSet, path: Path, evidence: Evidence | None) -> None:
    """Write a set's file, with what is known of its measurement."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, set_text(steering, evidence))
    except OSError as error:
        raise not_written("The steering set", path, error) from error


def carried_by(path: Path, steering: SteeringSet) -> Evidence | None:
    """The evidence beside a set in its file; None where it has none. Raises CorrSteerError for one that is not of it."""
    body = json.loads(path.read_text(encoding="utf-8")).get(FIELD)
    if body is None:
        return None
    try:
        found = typed(Evidence, body)
    except (TypeError, ValueError) as error:
        raise CorrSteerError(f"The evidence in {path} cannot be read: {error}; ask for the file again.") from error
    if found.content != steering.content:
        raise CorrSteerError(
            f"The evidence in {path} is of another set ({found.content}; this one is {steering.content}): the set was changed "
            f"after it was measured; measure it again."
        )
    return found


def read(path: Path) -> tuple[SteeringSet, Evidence]:
    """A set and its evidence from a file. Raises CorrSteerError where it has none, or one that cannot be read."""
    steering = load_set(path)
    found = carried_by(path, steering)
    if found is None:
        raise CorrSteerError(
            f"The set in {path} carries no evidence; measure it with 'evaluate --out FILE', which writes one that does."
        )
    return steering, found
