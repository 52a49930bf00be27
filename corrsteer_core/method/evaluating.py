"""One set measured with every control that its verdict takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corrsteer_core.base.progress import Progress, part_of, silent
from corrsteer_core.engine.steering import model_of
from corrsteer_core.evaluation.evaluation import Evaluation
from corrsteer_core.evaluation.exam import exam_for
from corrsteer_core.evaluation.measure import evaluate_set
from corrsteer_core.method.contenders import against as put_against
from corrsteer_core.method.matched import matched_sets
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.against import CONTROLS, MATCHED, Against
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.saes.sae import Sae
from corrsteer_core.storage.run_folder import is_cached
from corrsteer_core.tasks import Task

TOURNAMENT_SHARE = 0.4
"""Of the time of a measurement with a tournament, roughly."""
OF_THE_EXAM = ("split", "data", "limit", "max_new_tokens", "balance")
"""What of a measurement's arguments says which samples it is made on."""
DRAWING_SHARE = 0.6
"""Of the time of a measurement for which matched sets are chosen first, roughly."""


def evaluate(
    steering: SteeringSet,
    task: Task,
    *,
    control_count: int | None = None,
    matched: int | None = None,
    against: Against = Against(),
    model: Model | None = None,
    saes: Sequence[Sae] | None = None,
    progress: Progress = silent,
    **asked: Any,
) -> Evaluation:
    """Measure a set on one split of a task; `asked` is what `evaluate_set` takes more.

    `control_count` is how many random sets to compare with: None is CONTROLS where the set's run is cached, which
    knows how often features fire, else none. `matched` is how many sets are chosen alike among random features: None is
    MATCHED where there are other controls and the set was chosen by steering, else none. `against` adds a tournament with
    the rivals it names.
    """
    model = model or model_of(steering)
    cached = bool(steering.run) and is_cached(steering.run)
    count = control_count if control_count is not None else CONTROLS if cached else 0
    draws = matched if matched is not None else MATCHED if count else 0
    share = TOURNAMENT_SHARE * bool(against)
    asked |= {"control_count": count, "model": model, "saes": saes}
    result = _measured(steering, task, draws, model, asked, part_of(progress, 0, 1 - share))
    if not against:
        return result
    on = {name: asked[name] for name in OF_THE_EXAM if name in asked}
    exam = exam_for(steering, task, model, **{"split": "test", **on})
    return put_against(result, steering, exam, against, model, part_of(progress, 1 - share, share))


def _measured(
    steering: SteeringSet, task: Task, draws: int, model: Model, asked: dict[str, Any], progress: Progress
) -> Evaluation:
    """With so many sets chosen alike among random features, drawn first where they are not there yet."""
    if not draws or not steering.active_rows or not steering.run or not is_cached(steering.run):
        return evaluate_set(steering, task, progress=progress, **asked)
    rivals = matched_sets(steering, draws=draws, model=model, progress=part_of(progress, 0, DRAWING_SHARE))
    rest = part_of(progress, DRAWING_SHARE, 1 - DRAWING_SHARE) if rivals else progress
    return evaluate_set(steering, task, matched=rivals, progress=rest, **asked)
