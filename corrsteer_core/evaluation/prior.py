"""Is it more than a changed prior? What a set does beside, and beyond, one constant per class (README, "How it works").

Every variant of a trial gets the offset that serves it best on the validation split. What the steered model then has over
the unsteered one, on the test split, no constant could have given: the gain beyond the prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from corrsteer_core.evaluation.class_view import ClassView, answered_classes, names_of
from corrsteer_core.evaluation.exam import Exam
from corrsteer_core.evaluation.standing import LeftOut
from corrsteer_core.evaluation.trials import Trial, clusters_of
from corrsteer_core.reporting.rate_rows import BEYOND
from corrsteer_core.statistics.beyond_prior import PairedRates, paired_rates
from corrsteer_core.statistics.classes import ClassChange, ConfusionTable, class_changes, confusion
from corrsteer_core.statistics.discrimination import AucChange, auc_change
from corrsteer_core.statistics.offset import Offset, fitted, margins
from corrsteer_core.tasks import has_classes, right_class


@dataclass(frozen=True)
class Offsets:
    """The trial's variants, each with its own offset fitted on validation: who is right then."""

    fitted: tuple[Offset, ...]
    right: NDArray[np.float64]  # (test samples, variants) 1 where the likeliest class with the offset is the right one
    leads: NDArray[np.float64]  # (test samples, variants) nats between the likeliest class with the offset and the next


def fit_offsets(validation: ClassView, test: ClassView) -> Offsets:
    """Fit every variant's offset on `validation` and apply it to `test`."""
    found = tuple(
        fitted(validation.names, validation.logp[:, variant], validation.right)
        for variant in range(validation.logp.shape[1])
    )
    right = [one.predict(test.logp[:, variant]) == test.right for variant, one in enumerate(found)]
    leads = [margins(test.logp[:, variant], one.bias) for variant, one in enumerate(found)]
    return Offsets(found, np.array(right, dtype=np.float64).T, np.array(leads).T)


@dataclass(frozen=True)
class Prior:
    """One set's share of the answer, from what is right with and without offsets."""

    validation: int
    """Samples that the offsets were fitted on."""
    unsteered_offset: Offset
    steered_offset: Offset
    offset: PairedRates
    """Unsteered answers as they are -> the unsteered model's likeliest class with its offset."""
    beyond: PairedRates
    """Unsteered with its offset -> steered with its own."""
    auc: AucChange | None

    def summary(self) -> dict:
        """The numbers by the names of the command line, ready for JSON."""
        offset, beyond = self.offset, self.beyond
        return {
            "offset": {
                "bias": dict(zip(self.unsteered_offset.names, self.unsteered_offset.bias, strict=True)),
                "steered_bias": dict(zip(self.steered_offset.names, self.steered_offset.bias, strict=True)),
                "fitted_on": self.validation,
                "rate": offset.after,
                **_numbers(offset),
            },
            "beyond_prior": {"unsteered_rate": beyond.before, "steered_rate": beyond.after, **_numbers(beyond)},
            "auc": None
            if self.auc is None
            else {"unsteered": self.auc.before, "steered": self.auc.after, "interval": self.auc.interval},
        }


@dataclass(frozen=True)
class ClassAnswers:
    """What was answered where which class is right, by the task's own scorer; also where no one token tells classes apart."""

    classes: tuple[ClassChange, ...]
    """Rates of the answers as they are, by class of the right answer."""
    unsteered: ConfusionTable
    steered: ConfusionTable

    def summary(self) -> dict:
        """The numbers, ready for JSON."""
        return {
            "classes": [
                {"class": one.name, **{name: value for name, value in asdict(one).items() if name != "name"}}
                for one in self.classes
            ],
            "confusion": {
                "names": list(self.unsteered.names),
                "unsteered": self.unsteered.counts,
                "steered": self.steered.counts,
            },
            "answers": {"unsteered": _answers(self.unsteered), "steered": _answers(self.steered)},
            "majority_rate": self.unsteered.majority_class.share if self.unsteered.majority_class else None,
        }


def class_answers(exam: Exam, found: Trial, variant: int) -> ClassAnswers | None:
    """The answers of one variant of a trial beside the unsteered ones; None where the task has no classes."""
    if not exam.has_classes:
        return None
    task, items = exam.task, exam.items
    names = names_of(task, items)
    right = np.array([names.index(str(right_class(task, item))) for item in items], dtype=np.int64)
    before, after = (
        confusion(names, right, answered_classes(task, items, [row[side] for row in found.texts], names))
        for side in (0, variant)
    )
    return ClassAnswers(tuple(class_changes(before, after)), before, after)


def _numbers(one: PairedRates) -> dict:
    return {
        "effect": one.effect,
        "positive_flips": one.flips.positive,
        "negative_flips": one.flips.negative,
        "p": one.p,
        "interval": one.interval,
    }


def _answers(table: ConfusionTable) -> dict:
    """The commonest answer with its share, and the share of answers that are none of the classes."""
    common = table.majority_answer
    return {
        "commonest": common.name if common else None,
        "share": common.share if common else None,
        "no_choice": table.no_choice_share,
    }


def prior_of(exam: Exam, found: Trial, variant: int, view: ClassView, offsets: Offsets) -> Prior:
    """The share of one variant of a trial, beside the unsteered one (variant 0). `view` is of the trial's items."""
    clusters = clusters_of(exam.items)
    return Prior(
        validation=len(exam.validation),
        unsteered_offset=offsets.fitted[0],
        steered_offset=offsets.fitted[variant],
        offset=paired_rates(found.outcomes[:, 0] > 0.5, offsets.right[:, 0] > 0.5, clusters=clusters),
        beyond=paired_rates(offsets.right[:, 0] > 0.5, offsets.right[:, variant] > 0.5, clusters=clusters),
        auc=auc_change(view.logp[:, 0], view.logp[:, variant], view.right, seed=0),
    )


def no_prior(exam: Exam) -> tuple[LeftOut, ...]:
    """That it is not known what one constant per class does, where there are classes, and why."""
    if not exam.has_classes:
        return ()
    if not exam.validation:
        why = "There are no validation samples to fit the constants on: a file says which they are in its column split."
    elif not has_classes(exam.task, exam.validation):
        why = "In all validation samples the same class is right, or some have none, so no constants can be fitted on them."
    else:
        why = "Some of the classes begin with the same token, or with none, so the model's first word does not tell them apart."
    return (LeftOut(BEYOND, why),)


def class_columns(exam: Exam, found: Trial, variant: int, view: ClassView, offsets: Offsets) -> dict[str, Sequence]:
    """What a measurement keeps of every sample beside texts and outcomes."""
    return {
        "class": [view.names[place] for place in view.right],
        "logp_unsteered": np.round(view.logp[:, 0], 4).tolist(),
        "logp_steered": np.round(view.logp[:, variant], 4).tolist(),
        "with_offset_unsteered": offsets.right[:, 0].tolist(),
        "with_offset_steered": offsets.right[:, variant].tolist(),
    }
