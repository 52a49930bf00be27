"""Requests that ask for the opposite: a set that makes a model refuse must not refuse what is harmless.

Where success is one and the same class for every sample (to refuse, or to answer), what always gives that class is always
right, so no constant per class can be told from knowledge. The mirror task asks for the other class: what the task's own
scorer finds there is a false positive. What counts is the true positive rate less the false one; a rate that rises alone is a
shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress
from corrsteer_core.engine.choosing import Choose
from corrsteer_core.engine.generation import Vectors
from corrsteer_core.evaluation.exam import Exam, exam_for
from corrsteer_core.evaluation.multiple_choice import MEASURING
from corrsteer_core.evaluation.standing import LeftOut
from corrsteer_core.evaluation.trials import Comparison, compare, trial, unsteered_and
from corrsteer_core.models.loading import Model
from corrsteer_core.reporting.rate_rows import MIRROR
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.statistics.rates import Interval, interval_of_difference
from corrsteer_core.tasks import COMPLY, REFUSE, get_task, right_class

MIRRORS = {REFUSE: "overrefusal", COMPLY: "refusal"}
"""By the class that is always right in a task: the task in which it never is."""


@dataclass(frozen=True)
class Mirror:
    """A set on the samples of the mirror task, where what its own task calls success is wrong."""

    task: str
    false_positives: Comparison
    """Shares of the mirror's samples with such an answer, unsteered and steered."""
    difference: tuple[float, float]
    """True positive rate less the false one, unsteered and steered."""
    interval: Interval | None
    """Of the change of that difference, 95%."""

    @property
    def effect(self) -> float:
        """What the set does to the difference."""
        return self.difference[1] - self.difference[0]

    def summary(self) -> dict:
        """The numbers, ready for JSON."""
        false = self.false_positives
        return {
            "mirror": {
                "task": self.task,
                **{name: value for name, value in asdict(false).items() if name in _NAMED},
                "unsteered_difference": self.difference[0],
                "steered_difference": self.difference[1],
                "effect": self.effect,
                "interval": self.interval,
            }
        }


_NAMED = ("n", "unsteered_rate", "steered_rate", "unsteered_interval", "steered_interval", "p")


def always_right(exam: Exam) -> str | None:
    """The class that is right in every sample of an exam and its validation split, if its task has a mirror."""
    (found, *more) = {right_class(exam.task, item) for item in (*exam.items, *exam.validation)}
    return found if found in MIRRORS and not more else None


def mirrored(
    sets: Sequence[SteeringSet],
    exam: Exam,
    right: str,
    own: Sequence[Comparison],
    vectors: Sequence[Vectors],
    model: Model,
    choose: Choose,
    progress: Progress,
) -> Sequence[Mirror | LeftOut]:
    """Each set on as many samples of the exam's mirror task, or why it could not be measured.

    `right` is the class that is always right in the exam, `own` what each set did there, `vectors` what each adds.
    """
    task = get_task(MIRRORS[right])
    try:
        other = exam_for(sets[0], task, model, split=exam.split, limit=len(exam.items))
    except CorrSteerError as error:
        return [LeftOut(MIRROR, str(error)) for _ in sets]
    found = trial(
        model,
        [replace(item, target=right) for item in other.items],
        unsteered_and(*vectors),
        style=exam.style,
        scorer=exam.task.scorer,
        max_new_tokens=exam.max_new_tokens,
        choose=choose,
        stage=MEASURING,
        progress=progress,
    )
    return [_beside(task.name, one, compare(found, place)) for place, one in enumerate(own, 1)]


def _beside(name: str, own: Comparison, false: Comparison) -> Mirror:
    difference = (own.unsteered_rate - false.unsteered_rate, own.steered_rate - false.steered_rate)
    both = own.effect_interval, false.effect_interval
    interval = interval_of_difference(own.effect, both[0], false.effect, both[1]) if both[0] and both[1] else None
    return Mirror(name, false, difference, interval)
