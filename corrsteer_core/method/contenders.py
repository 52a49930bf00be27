"""The rivals of a tournament, made from what was asked for: prompts, and what can be had without an SAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, part_of, silent
from corrsteer_core.evaluation import tournament
from corrsteer_core.evaluation.evaluation import Evaluation
from corrsteer_core.evaluation.exam import Exam
from corrsteer_core.evaluation.kept import keep
from corrsteer_core.evaluation.standing import LeftOut
from corrsteer_core.evaluation.tournament import MEASURING, PROMPT, Contender, with_tournament
from corrsteer_core.method.difference_baseline import chosen_difference
from corrsteer_core.method.run_setup import reopen
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.against import CONSTRAINED, DIFFERENCE, OFFSET, PROMPTS, Against
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.storage.run_folder import is_cached
from corrsteer_core.tasks.base import BetterPrompt
from corrsteer_core.tasks.shots import Shots, examples_from, examples_in, without_shots

CONSTANT, WITHOUT_SAE, HELD = "one constant per class", "difference of activations", "constrained decoding"
"""Names of rivals that are no prompts."""
SEED = 0
"""Of which training samples are shown as examples."""
PREPARING_SHARE = 0.5
"""Of the time of a tournament with a difference of activations, roughly: it is chosen on validation samples first."""


def against(
    result: Evaluation, steering: SteeringSet, exam: Exam, asked: Against, model: Model, progress: Progress = silent
) -> Evaluation:
    """The evaluation with its set's place among the rivals asked for, kept with the run; it is of this exam.

    Rivals that come with the tool and cannot be measured here are left out with the reason. Raises CorrSteerError for
    prompts of the user's own that cannot be used, as examples that are among the samples to measure on.
    """
    share = PREPARING_SHARE * (DIFFERENCE in asked.kinds)
    contenders, missing = _own_prompts(exam, asked), []
    for name, made in _offered(steering, exam, asked, model, part_of(progress, 0, share, MEASURING)):
        if isinstance(made, Contender):
            contenders.append(made)
        else:
            missing.append(LeftOut(name, str(made)))
    rest = part_of(progress, share, 1 - share)
    found = with_tournament(result, exam, contenders, model, left_out=missing, progress=rest)
    keep(steering, found)
    return found


def _own_prompts(exam: Exam, asked: Against) -> list[Contender]:
    """The user's own, in the order of the options."""
    found = []
    for place, text in enumerate(asked.systems, 1):
        name = "your text" if len(asked.systems) == 1 else f"your text {place}"
        found.append(_prompt(exam, BetterPrompt(name, text), own=True))
    if asked.shots:
        found.append(_prompt(exam, BetterPrompt(f"{asked.shots} examples", shots=asked.shots), own=True))
    if asked.examples:
        shots = examples_in(exam.task, asked.examples)
        _check_unseen(exam, shots, asked.examples.name)
        style = replace(exam.style, shots=shots)
        found.append(Contender(f"prompt: {asked.examples.name}", PROMPT, style, own=True))
    return found


def _prompt(exam: Exam, better: BetterPrompt, *, own: bool = False) -> Contender:
    """The exam's own way of asking with another text, other examples, or both, in place of its own."""
    style = exam.style
    if better.system:
        style = replace(style, system=better.system)
    if better.shots:
        style = replace(style, shots=examples_from(exam.task, exam.training, better.shots, SEED))
    return Contender(f"prompt: {better.name}", PROMPT, style, own=own)


def _check_unseen(exam: Exam, shots: Shots, file: str) -> None:
    """Raise CorrSteerError for examples that are asked, or that offsets are fitted on."""
    held_back = [*exam.items, *exam.validation]
    free = without_shots(held_back, shots)
    if len(free) < len(held_back):
        raise CorrSteerError(
            f"{len(held_back) - len(free)} of the examples in {file} are among the {exam.split} or validation samples of "
            f"{exam.name}; an example must not be asked, so take others, as of the training split."
        )


def _offered(
    steering: SteeringSet, exam: Exam, asked: Against, model: Model, progress: Progress
) -> Iterator[tuple[str, Contender | CorrSteerError]]:
    """The rivals that come with the tool and were asked for, by name; or why one cannot be had."""
    if PROMPTS in asked.kinds:
        if not exam.task.prompts:
            yield PROMPTS, CorrSteerError(f"No better prompts come with {exam.task.name}; give one of your own.")
        for better in exam.task.prompts:
            yield f"prompt: {better.name}", _made(partial(_prompt, exam, better))
    if OFFSET in asked.kinds:
        yield CONSTANT, Contender(CONSTANT, tournament.OFFSET)
    if DIFFERENCE in asked.kinds:
        yield WITHOUT_SAE, _made(partial(_difference, steering, model, progress))
    if CONSTRAINED in asked.kinds:
        yield HELD, Contender(HELD, tournament.CONSTRAINED)


def _made(make: Callable[[], Contender]) -> Contender | CorrSteerError:
    try:
        return make()
    except CorrSteerError as error:
        return error


def _difference(steering: SteeringSet, model: Model, progress: Progress) -> Contender:
    """The best difference vector of the set's run, chosen on validation samples."""
    if not steering.run or not is_cached(steering.run):
        raise CorrSteerError(
            "The set's run is not cached, so there are no right and wrong answers to take a difference of."
        )
    vectors = chosen_difference(reopen(steering.run, model), progress=progress)
    if vectors is None:
        raise CorrSteerError("No difference of activations has an effect beyond noise on the validation samples.")
    return Contender(WITHOUT_SAE, tournament.DIFFERENCE, vectors=vectors)
