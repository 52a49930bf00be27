"""Planted truths through the whole of a measurement's judgement, a hundred seeds each: what is called what.

No model runs: log-probabilities of classes are made up, for the unsteered model, the set and its controls, and go the way
that a model's own would go, from answers to the verdict.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from corrsteer_core.engine.choosing import greedy
from corrsteer_core.evaluation import measure, prior
from corrsteer_core.evaluation.class_view import ClassView
from corrsteer_core.evaluation.exam import Exam
from corrsteer_core.evaluation.rivals import Rivals
from corrsteer_core.evaluation.trials import Trial
from corrsteer_core.reporting.rate_rows import UNIGRAM
from corrsteer_core.reporting.verdict import verdict
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.tasks import Item, get_task

SEEDS = [10, pytest.param(100, marks=pytest.mark.exhaustive)]
"""Draws of each case; a hundred in `make test-all`."""
N = 280
CONTROLS = 7
LETTERS = ("A", "B", "C", "D")


class Made:
    """A task of K classes with a validation and a test split, and a model whose leaning towards a class is off."""

    def __init__(self, seed: int, shares: tuple[float, ...], skill: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.names = ("Positive", "Negative") if len(shares) == 2 else LETTERS[: len(shares)]
        self.right = {split: self.rng.choice(len(shares), N, p=shares) for split in ("validation", "test")}
        self.lean = np.linspace(1.1, -1.1, len(shares))
        self.base = {split: self._scores(right, skill) for split, right in self.right.items()}

    def _scores(self, right: np.ndarray, skill: float) -> np.ndarray:
        noise = self.rng.normal(size=(N, len(self.names)))
        return skill * np.eye(len(self.names))[right] + noise + self.lean

    def moved(self, push: np.ndarray, tilt: float = 0.0, jitter: float = 0.05) -> dict[str, np.ndarray]:
        """The scores with a constant added per class, `tilt` added to the right class, and a little of what steering does."""
        return {
            split: scores
            + push
            + tilt * np.eye(len(self.names))[self.right[split]]
            + jitter * self.rng.normal(size=scores.shape)
            for split, scores in self.base.items()
        }


def log_p(scores: np.ndarray) -> np.ndarray:
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


def pushed(made: Made, steered: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The unigram control: the mean push on each class over the validation samples, as a constant."""
    push = (log_p(steered["validation"]) - log_p(made.base["validation"])).mean(axis=0)
    return {split: scores + push for split, scores in made.base.items()}


def judged(made: Made, steered: dict[str, np.ndarray], monkeypatch, held: bool = True) -> str:
    """The kind of the verdict on a set with these scores, beside random controls that push a little at random, and its push on classes.

    Without samples that are `held` back for validation there is neither an offset nor that push.
    """
    k = len(made.names)
    controls = [made.moved(0.3 * made.rng.normal(size=k)) for _ in range(CONTROLS)]
    variants = [made.base, steered, *controls, pushed(made, steered)]
    logp = {split: np.stack([log_p(one[split]) for one in variants], axis=1) for split in made.right}
    items = [
        Item(str(place), "test", f"item {place}", made.names[right], made.names)
        for place, right in enumerate(made.right["test"])
    ]
    task = get_task("sentiment" if k == 2 else "mmlu")
    texts = [[made.names[place] for place in row] for row in logp["test"].argmax(-1)]
    outcomes = np.array([[task.scorer(text, item) for text in row] for row, item in zip(texts, items, strict=True)])
    found = Trial(tuple(items), texts, [[[1]] * len(variants)] * N, outcomes, tuple(logp["test"]))
    monkeypatch.setattr(measure, "trial", lambda *_, **__: found)
    monkeypatch.setattr(measure, "tokens_of", lambda model, task, items, *_: [((1,),)] * len(items))
    view = ClassView(made.names, made.right["validation"], logp["validation"])
    monkeypatch.setattr(measure, "likely_classes", lambda *_: view)
    monkeypatch.setattr(measure, "fluency", lambda *_, **__: np.zeros((N, len(variants))))
    monkeypatch.setattr(measure, "render", lambda *_: [1])
    monkeypatch.setattr(measure, "variant_of", lambda *_: {})
    monkeypatch.setattr(measure, "keep", lambda *_: None)
    monkeypatch.setattr(prior, "auc_change", lambda *_, **__: None)  # the verdict does not go by it, and it takes long
    monkeypatch.setattr(measure, "one_token_choices", lambda *_: False)
    one = SimpleNamespace(name="set", content="", scale=1.0, run="", active_rows=(1,))
    names = [*(f"random {place}" for place in range(CONTROLS)), *([UNIGRAM] if held else [])]
    rivals = Rivals({name: {} for name in names})
    monkeypatch.setattr(measure, "rivals_of", lambda *_, **__: [rivals])
    exam = Exam(task, "test", items, PromptStyle(), 1, validation=tuple(items) if held else ())
    (result,) = measure.evaluate_sets(
        [one], exam, SimpleNamespace(arithmetic="float64"), [], control_count=CONTROLS, choose=greedy
    )
    return verdict(result.summary()).kind


def kinds(
    monkeypatch,
    shares: tuple[float, ...],
    seeds: int,
    skill: float,
    push: float,
    tilt: float = 0.0,
    held: bool = True,
) -> list[str]:
    """Verdicts over the seeds; the push undoes (above 1: overdoes) the model's own leaning."""
    found = []
    for seed in range(seeds):
        made = Made(seed, shares, skill)
        found.append(judged(made, made.moved(-push * made.lean, tilt), monkeypatch, held))
    return found


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.25, 0.25, 0.25, 0.25)])
def test_what_only_moves_the_threshold_is_called_a_shift(monkeypatch, shares, seeds):
    found = kinds(monkeypatch, shares, seeds, skill=2.0, push=1.0)
    assert found.count("works") <= seeds / 20
    assert found.count("shifts") >= 0.95 * seeds, {kind: found.count(kind) for kind in set(found)}


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.8, 0.2), (0.4, 0.3, 0.2, 0.1)])
def test_what_tells_the_classes_apart_works(monkeypatch, shares, seeds):
    found = kinds(monkeypatch, shares, seeds, skill=1.5, push=0.0, tilt=1.5)
    assert found.count("works") >= 0.95 * seeds, {kind: found.count(kind) for kind in set(found)}


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.75, 0.25), (0.8, 0.2), (0.4, 0.3, 0.2, 0.1)])
@pytest.mark.parametrize("push", [0.0, 1.0, 3.0, -3.0])
def test_where_there_is_nothing_to_learn_hardly_anything_works(monkeypatch, shares, push, seeds):
    """Right answers drawn at random, of any balance: whatever way a set pushes, it knows nothing of the text."""
    found = kinds(monkeypatch, shares, seeds, skill=0.0, push=push)
    assert found.count("works") <= seeds / 20, {kind: found.count(kind) for kind in set(found)}


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.25, 0.75), (0.25, 0.25, 0.25, 0.25)])
@pytest.mark.parametrize(("skill", "push"), [(2.0, 1.0), (0.0, 1.0), (0.0, 3.0)])
def test_without_samples_to_fit_constants_on_nothing_works(monkeypatch, shares, skill, push, seeds):
    """A file may have no validation rows: what only shifts must not pass because nobody could look."""
    found = kinds(monkeypatch, shares, seeds, skill, push, held=False)
    assert "works" not in found
    if skill:
        assert found.count("uncontrolled") >= 0.8 * seeds, {kind: found.count(kind) for kind in set(found)}


@pytest.mark.parametrize("seeds", SEEDS)
def test_controls_are_compared_with_what_is_left_beyond_the_prior(monkeypatch, seeds):
    """A set that tells classes apart and moves the threshold the wrong way beats controls that only have a better threshold."""
    kept = []
    compared = measure.compare_with_rivals
    monkeypatch.setattr(
        measure, "compare_with_rivals", lambda mine, *more, **named: kept.append(mine) or compared(mine, *more, **named)
    )
    made = Made(seeds, (0.5, 0.5), 1.5)
    judged(made, made.moved(-2.0 * made.lean), monkeypatch)
    plain = made.moved(0 * made.lean, jitter=0.0)
    judged(made, plain, monkeypatch)
    shifted, alone = (float(mine.mean()) for mine in kept)
    assert shifted == pytest.approx(alone, abs=0.03), "what a constant does is taken out before anything is compared"
