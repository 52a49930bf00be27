"""Measuring a set again as its evidence says it was, and comparing sample by sample. Nothing is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.engine.choosing import greedy
from corrsteer_core.engine.steering import check_model, variant_of
from corrsteer_core.evaluation.exam import Balance, Exam, exam_for
from corrsteer_core.evaluation.measure import Measured, measured_sets
from corrsteer_core.evaluation.near_ties import BOUND
from corrsteer_core.models.loading import Model, load_model
from corrsteer_core.proof.evidence import Evidence, digest
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.saes.named_saes import saes_of
from corrsteer_core.saes.sae import Sae
from corrsteer_core.statistics.rates import flips
from corrsteer_core.tasks import Task

ROUNDING = 1e-9
"""By which two rates of the same outcomes may differ."""


@dataclass(frozen=True)
class Agreement:
    """One thing that the evidence says, beside what was found."""

    what: str
    stated: Any
    found: Any
    agrees: bool


@dataclass(frozen=True)
class Replay:
    """What was found when a set was measured again."""

    rows: list[Agreement]
    differing: int
    """Samples whose outcome, unsteered or steered, is another one.

    Where the first token of an answer nearly tied with another one, other arithmetic may choose that: such samples do not
    speak against the evidence.
    """

    @property
    def agrees(self) -> bool:
        """Whether all that was stated was found."""
        return all(row.agrees for row in self.rows)

    @property
    def sentence(self) -> str:
        """What came of it, in a sentence."""
        if not self.agrees:
            return f"The evidence does not hold: {', '.join(row.what for row in self.rows if not row.agrees)}."
        if not self.differing:
            return "The evidence holds: all of it was found again, sample by sample."
        return (
            f"The evidence holds, but for {self.differing} of its samples: the first token of their answers nearly tied with "
            f"another one, and this machine's arithmetic chose that."
        )


def replay(
    steering: SteeringSet,
    evidence: Evidence,
    task: Task,
    *,
    data: Path | None = None,
    model: Model | None = None,
    saes: list[Sae] | None = None,
    progress: Progress = silent,
) -> Replay:
    """Measure a set again, unsteered and steered, on the samples that its evidence is of; `task` is what it names.

    Raises CorrSteerError for another model or other SAEs than the set's, and where the run or the task's file, which say
    what the samples are, are not there.
    """
    model = model or load_model(steering.model, like=evidence.dtype)
    check_model(steering, model)
    saes = saes or saes_of(steering.saes, model)
    steering = replace(steering, scale=evidence.scale)
    exam = exam_for(
        steering,
        task,
        model,
        split=evidence.split,
        data=data,
        limit=evidence.n,
        max_new_tokens=evidence.max_new_tokens,
        balance=None if evidence.balance is None else Balance(evidence.balance[0], int(evidence.balance[1])),
    )
    (found,) = measured_sets(exam, [steering], [variant_of(steering, saes)], model, greedy, progress)
    return _compared(steering, evidence, exam, model, found)


def _compared(steering: SteeringSet, evidence: Evidence, exam: Exam, model: Model, found: Measured) -> Replay:
    """What is stated beside what was found."""
    rows = [
        _same("model", evidence.model_fingerprint, model.fingerprint),
        _same("SAEs", ", ".join(evidence.sae_fingerprints), ", ".join(sae.fingerprint for sae in steering.active_saes)),
        _same("computed in", evidence.dtype, model.arithmetic),
        _same("number of samples", evidence.n, len(exam.items)),
        _same("samples", evidence.items, digest(found.evaluation.samples)),
    ]
    if not all(row.agrees for row in rows[-2:]):  # other samples: there is nothing to compare one by one
        return Replay(rows, 0)
    stated, measured = evidence.outcomes(), found.trial.outcomes[:, :2]
    differs = stated != measured
    close = _close(found.trial.leads, model.arithmetic, differs.shape)
    differing, allowed = int(differs.any(axis=1).sum()), not (differs & ~close).any()
    rows[2] = replace(rows[2], agrees=rows[2].agrees or not differing)
    said, own, again = _stated(evidence), _counted(stated), _counted(measured)
    for what, value in said.items():
        holds = _alike(value, own[what]) and (allowed or _alike(value, again[what]))
        rows.append(Agreement(what, value, again[what], holds))
    rows.append(Agreement("samples that differ", 0, differing, bool(allowed)))
    return Replay(rows, differing)


def _stated(evidence: Evidence) -> dict[str, float]:
    """What is said of all outcomes together, under the names that it is shown by."""
    return {
        "unsteered": evidence.unsteered_rate,
        "steered": evidence.steered_rate,
        "won": evidence.positive_flips,
        "lost": evidence.negative_flips,
    }


def _counted(outcomes: np.ndarray) -> dict[str, float]:
    """The same, counted from outcomes (n, 2)."""
    flipped = flips(outcomes[:, 0], outcomes[:, 1])
    unsteered, steered = outcomes.mean(axis=0).tolist()
    return {"unsteered": unsteered, "steered": steered, "won": flipped.positive, "lost": flipped.negative}


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= ROUNDING


def _same(what: str, stated: Any, found: Any) -> Agreement:
    return Agreement(what, stated, found, bool(stated == found))


def _close(leads: np.ndarray | None, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """(n, 2): whose first token nearly ties with another; none where that is not known."""
    if leads is None:
        return np.zeros(shape, dtype=bool)
    return leads[:, :2] < BOUND.get(dtype, BOUND["bfloat16"])
