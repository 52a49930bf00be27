"""Predicting what steering with every feature would do, from one backward pass per training sample.

To first order a vector v added at the generation positions changes what sample i is judged by by g_i . v (see
`engine.gradients`), so the mean gradient tells the effect of any vector: a feature's is its coefficient times its decoder
direction. With classes, success is the probability of the right class; otherwise the policy gradient stands for it,
(y_i - mean y) times the gradient of the log-probability of the sample's own answer (Williams 1992, Machine Learning 8:229-256).

Shift and tilt are of the margin of class k over the mean of the sample's other classes, r_k = l_k - mean of l_j, j not k.
**Shift**: with two classes the mean change of r of the second, over all samples; with more, of the class it favours most.
**Tilt**: the mean change of r_k where k is right minus that where it is not, averaged over classes. With two classes these
are the mean of g_i . v, g_i the gradient of a sample's margin, and its mean over the one class minus that over the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.engine.class_probabilities import ClassTokens
from corrsteer_core.engine.gradients.following import answer_of, planned
from corrsteer_core.engine.gradients.sums import ClassSums, Followed
from corrsteer_core.evaluation.class_view import tokens_of
from corrsteer_core.method.candidates import activation_lengths
from corrsteer_core.method.run_setup import Setup, reopen
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.prompts import render
from corrsteer_core.runs.fit import sae_sizes
from corrsteer_core.runs.predictions import PREDICTED, predictions
from corrsteer_core.runs.stored_run import features_of, fit_summary
from corrsteer_core.saes.sae import Sae
from corrsteer_core.storage.reading import Reader, query
from corrsteer_core.storage.writing import PATIENCE, Writer
from corrsteer_core.tasks import Item, classes_of, right_class
from corrsteer_core.workers.pool import done

STAGE = "following gradients"
CLASSES, ANSWERS = "classes", "answers"
UNITS = 2**24
"""Numbers (features, d_sae) that a chunk of directions is decoded from."""


@dataclass(frozen=True)
class MeanGradients:
    """Over the training samples, at each hook point."""

    kind: str
    success: dict[HookPoint, Tensor]
    """(d,) float64"""
    classes: dict[HookPoint, ClassSums] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    inexact: int = 0


def predict(run: str, *, setup: Setup | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Predict the effect of every feature and store it in `predictions`; what is known of the fit of today is not repeated.

    Returns the row of `prediction_facts`. Raises CorrSteerError for a run that is not fitted or has no coefficient.
    """
    fit_summary(run)
    if predictions(run).empty:
        coefficients = _coefficients(run)  # if there are none, that is said before a model is loaded
        setup = setup or reopen(run)
        means = mean_gradients(setup, progress)
        lengths = activation_lengths(setup, [sae.point for sae in setup.saes])
        frames = [predicted(sae, means, coefficients[sae.layer], lengths[sae.point]) for sae in setup.saes]
        facts = {"kind": means.kind, "samples": len(_training(setup)), "inexact": means.inexact}
        with Writer(run, wait=PATIENCE) as store:
            store.replace("predictions", pd.concat(frames, ignore_index=True))
            store.replace("prediction_facts", pd.DataFrame([facts]))
    found = query(run, "SELECT kind, samples, inexact FROM prediction_facts").to_dict("records")[0]
    return {str(name): value for name, value in found.items()}


def _training(setup: Setup) -> list[Item]:
    return [item for item in setup.items if item.split == "train"]


def _coefficients(run: str) -> dict[int, pd.DataFrame]:
    """For each layer every feature's coefficient, by its number, and whether it is its own (else the layer's median)."""
    fitted = features_of(run)
    positive = fitted[fitted["coefficient"] > 0]
    if positive.empty:
        raise CorrSteerError(
            f"No feature of {run} has a coefficient: none fired in a right answer. Choose a task that the model sometimes solves."
        )
    found = {}
    for layer, d_sae in _sizes(run).items():
        own = positive[positive["layer"] == layer].set_index("feature")["coefficient"].reindex(range(d_sae))
        usual = own.median() if own.notna().any() else positive["coefficient"].median()
        found[layer] = pd.DataFrame({"coefficient": own.fillna(usual), "own": own.notna()})
    return found


def _sizes(run: str) -> dict[int, int]:
    with Reader(run) as store:
        return sae_sizes(store)


def mean_gradients(setup: Setup, progress: Progress = silent) -> MeanGradients:
    """Over the run's training samples: of the right class's probability where the task has classes, else of its answers."""
    items = _training(setup)
    classes = tokens_of(setup.model, setup.task, items)
    return _of_classes(setup, items, classes, progress) if classes else _of_answers(setup, items, progress)


def _of_classes(setup: Setup, items: list[Item], tokens: list[ClassTokens], progress: Progress) -> MeanGradients:
    names = tuple(dict.fromkeys(name for item in items for name in classes_of(setup.task, item)))
    own = [[names.index(name) for name in classes_of(setup.task, item)] for item in items]
    right = [names.index(str(right_class(setup.task, item))) for item in items]
    asked = Followed(_prompts(setup, items), _points(setup), tokens=tokens, own=own, right=right)
    sums = {point: ClassSums.zeros(len(names), setup.model.width(point.kind)) for point in asked.points}
    success = _followed(setup, asked, sums, progress)
    return MeanGradients(CLASSES, {point: total / len(items) for point, total in success.items()}, sums, names)


def _of_answers(setup: Setup, items: list[Item], progress: Progress) -> MeanGradients:
    """The policy gradient: E[(y - mean y) grad log p(o | x)]."""
    rows = query(setup.run, "SELECT sample, output, outcome, tokens FROM samples").set_index("sample")
    rows = rows.loc[[item.id for item in items]]
    most = setup.config.max_new_tokens
    read = [answer_of(setup.model, row.output, int(row.tokens), most) for row in rows.itertuples()]
    weight = ((rows["outcome"] - rows["outcome"].mean()) / len(items)).tolist()
    asked = Followed(_prompts(setup, items), _points(setup), answers=[answer for answer, _ in read], weight=weight)
    success = _followed(setup, asked, {}, progress)
    return MeanGradients(ANSWERS, success, inexact=sum(not exact for _, exact in read))


def _followed(
    setup: Setup, asked: Followed, sums: dict[HookPoint, ClassSums], progress: Progress
) -> dict[HookPoint, Tensor]:
    """The gradient of success at each hook point, (d,), summed over the samples; those of classes are added to `sums`."""
    total = {point: torch.zeros(setup.model.width(point.kind), dtype=torch.float64) for point in asked.points}
    count = 0

    def on_progress(ahead: float) -> None:
        progress(STAGE, int(count + ahead), len(asked.prompts))

    for part in done(setup.model, (), asked, planned(setup.model, asked.prompts, asked.positions), on_progress):
        for point, of_part in part.success.items():
            total[point] += of_part
        for point, of_classes in part.classes.items():
            sums[point].add_sums(part.numbers, of_classes)
        count += part.samples
        on_progress(0)
    return total


def _points(setup: Setup) -> tuple[HookPoint, ...]:
    return tuple(sae.point for sae in setup.saes)


def _prompts(setup: Setup, items: Sequence[Item]) -> list[list[int]]:
    return [render(setup.model, item.prompt, setup.config.style) for item in items]


def predicted(sae: Sae, means: MeanGradients, coefficients: pd.DataFrame, length: float) -> pd.DataFrame:
    """The rows of `predictions` of one SAE; `coefficients` by feature, `length` is that of the activations at its point."""
    sums = means.classes.get(sae.point)
    compared = sums is not None and len(sums.compared) > 0
    wanted = [means.success[sae.point][None]]
    if compared and sums:
        wanted += [sums.tilt()[None], sums.shifts()]
    along, norms = _along(sae, torch.cat(wanted))
    c = coefficients["coefficient"].to_numpy()
    names = [means.names[number] for number in sums.compared] if compared and sums else []
    shift, toward = _shift(c[:, None] * along[:, 2:], names)
    return pd.DataFrame(
        {
            "layer": sae.layer,
            "feature": np.arange(sae.d_sae),
            "coefficient": c,
            "own": coefficients["own"].to_numpy(),
            PREDICTED: c * along[:, 0],
            "shift": shift,
            "tilt": c * along[:, 1] if compared else np.full(len(c), np.nan),
            "toward": pd.array(toward, dtype="string"),
            "share": c * norms / length,
        }
    )


def _shift(shifts: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str | None]]:
    """One shift for each feature, and the class that it favours, from (features, classes)."""
    if not names:
        return np.full(len(shifts), np.nan), [None] * len(shifts)
    toward = [names[place] for place in shifts.argmax(1)]
    return (shifts[:, 1] if len(names) == 2 else shifts.max(1)), list(toward)


def _along(sae: Sae, gradients: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Each feature's direction along some gradients (m, d): (features, m); and the directions' lengths, (features,)."""
    found, norms = [], []
    step = max(1, UNITS // sae.d_sae)
    for start in range(0, sae.d_sae, step):
        directions = sae.directions(range(start, min(sae.d_sae, start + step))).cpu().double()
        found.append(directions @ gradients.T)
        norms.append(directions.norm(dim=-1))
    return torch.cat(found).numpy(), torch.cat(norms).numpy()
