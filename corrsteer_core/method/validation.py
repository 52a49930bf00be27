"""What features do on the validation split, by the two things a set can be chosen for.

`rate`: the outcome as it is scored. `beyond_prior`, for tasks whose answer is one of K classes: whether the likeliest class is
the right one after every variant, the unsteered one too, got the constant per class that serves it best on this very
split. By the rate alone, whatever makes the answer likelier that the model gives too seldom looks like an improvement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.evaluation.class_view import class_view, tokens_of
from corrsteer_core.evaluation.prior import fit_offsets
from corrsteer_core.evaluation.trials import trial, unsteered_and
from corrsteer_core.method.run_setup import Setup
from corrsteer_core.runs import strategies
from corrsteer_core.runs.objectives import Objective
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet
from corrsteer_core.runs.stored_run import empty_set_of
from corrsteer_core.tasks import Item


@dataclass(frozen=True)
class Tried:
    """Groups of features steered on the validation split; the first column is the unsteered model."""

    rate: np.ndarray  # (samples, 1 + groups) outcomes
    beyond_prior: np.ndarray | None  # the same with offsets; None for a task without classes

    def by(self, objective: Objective) -> np.ndarray:
        """The outcomes that count. Raises CorrSteerError for `beyond_prior` where there are no classes."""
        if objective == "rate":
            return self.rate
        if self.beyond_prior is None:
            raise CorrSteerError(
                "This task's answers are no classes that one token tells apart, so there is no gain beyond the prior to "
                "choose by; use --objective rate."
            )
        return self.beyond_prior


def validation_items(setup: Setup) -> list[Item]:
    """The run's validation samples. Raises CorrSteerError if there are none."""
    items = [item for item in setup.items if item.split == "validation"]
    if not items:
        raise CorrSteerError(
            f"The run {setup.run} has no validation samples to try features on; collect it with a larger limit."
        )
    return items


def default_objective(setup: Setup) -> Objective:
    """`beyond_prior` where the task has classes that one token tells apart."""
    return "beyond_prior" if tokens_of(setup.model, setup.task, validation_items(setup)) else "rate"


def try_groups(
    setup: Setup, base: SteeringSet, groups: Sequence[Sequence[SteeringRow]], stage: str, progress: Progress
) -> Tried:
    """Steer each group of rows on the validation split."""
    items = validation_items(setup)
    classes = tokens_of(setup.model, setup.task, items)
    found = trial(
        setup.model,
        items,
        unsteered_and(*(vectors_of(base.with_rows(rows), setup.saes) for rows in groups)),
        style=setup.config.style,
        scorer=setup.task.scorer,
        max_new_tokens=setup.config.max_new_tokens,
        classes=classes,
        stage=stage,
        progress=progress,
    )
    if not classes:
        return Tried(found.outcomes, None)
    view = class_view(setup.task, items, found.class_logp)
    return Tried(found.outcomes, fit_offsets(view, view).right)


def empty_of(setup: Setup) -> SteeringSet:
    """A set without rows, of a run."""
    return empty_set_of(setup.run, setup.config)


# --- effects as they are stored ------------------------------------------------------------------


def steered_alone(setup: Setup, some: pd.DataFrame, stage: str, progress: Progress) -> pd.DataFrame:
    """Candidates with what each did when it was steered alone."""
    rows = [[strategies.as_row(one)] for one in some.itertuples()]
    return effect_rows(some, try_groups(setup, empty_of(setup), rows, stage, progress))


def effect_rows(some: pd.DataFrame, tried: Tried) -> pd.DataFrame:
    """Candidates with what each did alone by the rate and, where there are classes, beyond the prior; see docs/schema.md."""
    found = strategies.effects(some, tried.rate[:, 0], tried.rate[:, 1:])
    found = found.assign(outcomes=_bits(tried.rate[:, 1:]), unsteered_outcomes=_bits(tried.rate[:, :1])[0])
    if tried.beyond_prior is None:
        return found
    beyond = strategies.effects(some, tried.beyond_prior[:, 0], tried.beyond_prior[:, 1:])
    return found.assign(
        **{f"beyond_{name}": beyond[name] for name in MEASURED},
        beyond_outcomes=_bits(tried.beyond_prior[:, 1:]),
        beyond_unsteered_outcomes=_bits(tried.beyond_prior[:, :1])[0],
    )


MEASURED = ("unsteered_rate", "steered_rate", "positive_flips", "negative_flips", "p")


def judged_by(effects: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """Stored effects with rates, flips and p of an objective in the plain columns. Raises CorrSteerError if not stored."""
    if objective == "rate":
        return effects
    if effects["beyond_p"].isna().any():
        raise CorrSteerError(
            "What features do beyond the prior has not been measured for all candidates; use --objective rate."
        )
    renamed = effects.drop(columns=[*MEASURED, "outcomes", "unsteered_outcomes"])
    return renamed.rename(columns=lambda name: name.removeprefix("beyond_"))


def _bits(outcomes: np.ndarray) -> list[str | None]:
    """Each column's outcomes as hexadecimal digits, one bit a sample; None for graded outcomes."""
    if not np.isin(outcomes, (0.0, 1.0)).all():
        return [None] * outcomes.shape[1]
    return [np.packbits(column.astype(np.uint8)).tobytes().hex() for column in outcomes.T]
