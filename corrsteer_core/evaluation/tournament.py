"""The tournament: a set beside what its user would do first, all on the same samples.

Every contender answers as it is, and so does the set: no offset is fitted for any of them but the rival that is one. Each
is compared with the set sample by sample; p values are corrected for the number of rivals (Holm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, part_of
from corrsteer_core.engine.generation import Vectors
from corrsteer_core.evaluation.evaluation import Evaluation
from corrsteer_core.evaluation.exam import Exam
from corrsteer_core.evaluation.multiple_choice import MEASURING, constrained_trial, one_token_choices
from corrsteer_core.evaluation.standing import LeftOut, Standing
from corrsteer_core.evaluation.trials import clusters_of, trial
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.statistics.rival import compare_with_rivals

PROMPT, OFFSET, DIFFERENCE, CONSTRAINED = "prompt", "offset", "difference", "constrained"
WITH_OFFSET = "with_offset_unsteered"
"""Column of an evaluation's samples: whether the unsteered model with its offset is right."""


@dataclass(frozen=True)
class Contender:
    """One rival of a set."""

    name: str
    kind: str
    """prompt, offset, difference or constrained."""
    style: PromptStyle | None = None
    """Another way of asking; None is the exam's own."""
    vectors: Vectors = field(default_factory=dict)
    """What is added to the model."""
    own: bool = False
    """Whether the user wrote it: one that cannot be measured is then an error."""


def with_tournament(
    result: Evaluation,
    exam: Exam,
    contenders: Sequence[Contender],
    model: Model,
    *,
    left_out: Sequence[LeftOut] = (),
    progress: Progress,
) -> Evaluation:
    """The evaluation (of this exam) with its set's place among contenders; those that cannot be measured are left out.

    Raises CorrSteerError for a contender of the user's own that cannot be, as one whose prompts are too long for the model.
    """
    outcomes: dict[str, np.ndarray] = {}
    missing = list(left_out)
    for place, one in enumerate(contenders):
        part = part_of(progress, place / len(contenders), 1 / len(contenders), MEASURING)
        try:
            outcomes[one.name] = _outcomes(one, result, exam, model, part)
        except CorrSteerError as error:
            if one.own:
                raise
            missing.append(LeftOut(one.name, str(error)))
    mine = result.samples["outcome_steered"].to_numpy(np.float64)
    known = {one.name: one for one in contenders}
    standings = [
        Standing(known[beside.rival].kind, beside, result.comparison.unsteered_rate, known[beside.rival].style)
        for beside in (compare_with_rivals(mine, outcomes, clusters=clusters_of(exam.items)) if outcomes else [])
    ]
    return replace(result, tournament=tuple(standings), left_out=(*result.left_out, *missing))


def _outcomes(one: Contender, result: Evaluation, exam: Exam, model: Model, progress: Progress) -> np.ndarray:
    """(samples,) in the order of the exam's items."""
    if one.kind == OFFSET:
        if WITH_OFFSET not in result.samples:
            raise CorrSteerError(
                f"No constant per class can be fitted on {exam.name}: it has no classes to tell apart."
            )
        return result.samples[WITH_OFFSET].to_numpy(np.float64)
    if one.kind == CONSTRAINED:
        if not one_token_choices(exam, model):
            raise CorrSteerError(f"Answers to {exam.name} cannot be held to choices of one token each.")
        return constrained_trial(exam, [one.vectors], model, progress).outcomes[:, 0]
    found = trial(
        model,
        exam.items,
        [one.vectors],
        style=one.style or exam.style,
        scorer=exam.task.scorer,
        max_new_tokens=exam.max_new_tokens,
        progress=progress,
    )
    return found.outcomes[:, 0]
