"""Sums over samples of what gradients say of each: what a batch of samples comes to, whoever follows them.

The gradients themselves are as wide as the residual stream for every sample, class and hook point; only their sums go
from one process to another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor

from corrsteer_core.engine.class_probabilities import ClassTokens
from corrsteer_core.engine.gradients.following import (
    Answer,
    AnswerGradients,
    ClassGradients,
    answer_gradients,
    class_gradients,
    longest_of,
)
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.saes.sae import Sae
from corrsteer_core.workers import arrays


@dataclass
class ClassSums:
    """Sums over samples of the gradients of each class's margin over the others, at one hook point."""

    where_right: Tensor  # (classes, d) float64
    elsewhere: Tensor
    n_right: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (classes,)
    n_elsewhere: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def zeros(cls, classes: int, width: int) -> ClassSums:
        blank = torch.zeros(classes, width, dtype=torch.float64)
        return cls(blank, blank.clone(), np.zeros(classes), np.zeros(classes))

    def add(self, margins: Tensor, classes: Sequence[int], right: int) -> None:
        """A sample's margins (its classes, d) over its class 0; `classes` are their numbers, `right` is one of those."""
        margins, count = margins.double(), len(classes)
        against = (count * margins - margins.sum(0)) / (count - 1)
        for number, of_class in zip(classes, against, strict=True):
            (self.where_right if number == right else self.elsewhere)[number] += of_class
            (self.n_right if number == right else self.n_elsewhere)[number] += 1

    @property
    def compared(self) -> np.ndarray:
        """Numbers of the classes that are right for some samples and wrong for others."""
        return np.flatnonzero((self.n_right > 0) & (self.n_elsewhere > 0))

    def add_sums(self, numbers: Sequence[int], some: ClassSums) -> None:
        """Add the sums of some classes over other samples; `numbers` are theirs here."""
        at = list(numbers)
        self.where_right[at] += some.where_right
        self.elsewhere[at] += some.elsewhere
        self.n_right[at] += some.n_right
        self.n_elsewhere[at] += some.n_elsewhere

    def shifts(self) -> Tensor:
        """(compared, d): mean gradient over all samples."""
        some = self.compared
        n = torch.tensor(self.n_right + self.n_elsewhere)[some, None]
        return (self.where_right + self.elsewhere)[some] / n

    def tilt(self) -> Tensor:
        """(d,)"""
        some = self.compared
        means = self.where_right[some] / torch.tensor(self.n_right)[some, None]
        others = self.elsewhere[some] / torch.tensor(self.n_elsewhere)[some, None]
        return (means - others).mean(0)


@dataclass(frozen=True)
class BatchSums:
    """Over one batch of samples."""

    samples: int
    success: dict[HookPoint, Tensor]
    """(d,) float64"""
    numbers: list[int] = field(default_factory=list)
    """Of the classes that samples of the batch have."""
    classes: dict[HookPoint, ClassSums] = field(default_factory=dict)
    """Of these, in this order."""


@dataclass(frozen=True)
class Followed:
    """What is asked of every batch of samples: gradients of their classes, or of their answers."""

    prompts: Sequence[Sequence[int]]
    points: tuple[HookPoint, ...]
    tokens: Sequence[ClassTokens] = ()
    """Of each sample's classes, where there are classes."""
    own: Sequence[Sequence[int]] = ()
    """The numbers of each sample's classes."""
    right: Sequence[int] = ()
    """The number of the right one."""
    answers: Sequence[Answer] = ()
    """Else what each sample was answered with."""
    weight: Sequence[float] = ()
    """And what the gradient of its log-probability counts."""
    sae_refs: tuple[SaeRef, ...] = ()

    @property
    def positions(self) -> int:
        """Generation positions that are followed of each sample, at most."""
        return longest_of(self.answers)

    def identity(self) -> bytes:
        about = [self.tokens, self.own, self.right, [asdict(answer) for answer in self.answers], self.weight]
        asked = [[list(prompt) for prompt in self.prompts], [point.name for point in self.points], *about]
        return hashlib.sha256(b"gradients" + json.dumps(asked).encode()).digest()

    def ready(
        self, model: Model, saes: Sequence[Sae], on_progress: Callable[[float], None]
    ) -> Callable[[list[int]], Iterator[BatchSums]]:
        if self.tokens:
            of_classes = class_gradients(model, self.points, self.prompts, self.tokens)
            return lambda batch: map(self._of_classes, of_classes(batch))
        of_answers = answer_gradients(model, self.points, self.prompts, self.answers)
        return lambda batch: map(self._of_answers, of_answers(batch))

    def _of_classes(self, batch: ClassGradients) -> BatchSums:
        numbers = sorted({number for place in batch.prompts for number in self.own[place]})
        here = [[numbers.index(number) for number in self.own[place]] for place in batch.prompts]
        right = [numbers.index(self.right[place]) for place in batch.prompts]
        chosen = [own.index(number) for own, number in zip(here, right, strict=True)]
        sums = {point: ClassSums.zeros(len(numbers), found.shape[-1]) for point, found in batch.margins.items()}
        for point, found in batch.margins.items():
            for margins, own, number in zip(found, here, right, strict=True):
                sums[point].add(margins[: len(own)], own, number)
        success = {point: found.double().sum(0) for point, found in batch.success(chosen).items()}
        return BatchSums(len(batch.prompts), success, numbers, sums)

    def _of_answers(self, batch: AnswerGradients) -> BatchSums:
        weight = torch.tensor([self.weight[place] for place in batch.prompts], dtype=torch.float64)
        return BatchSums(len(batch.prompts), {point: weight @ g.double() for point, g in batch.gradients.items()})

    def encode(self, results: Sequence[BatchSums]) -> bytes:
        return arrays.encode([self._as_arrays(sums) for sums in results])

    def decode(self, data: bytes) -> list[BatchSums]:
        return [self._from_arrays(found) for found in arrays.decode(data)]

    def _as_arrays(self, sums: BatchSums) -> dict[str, np.ndarray]:
        found = {"samples": np.array(sums.samples), "numbers": np.array(sums.numbers, dtype=np.int64)}
        found |= {f"success {point.name}": one.numpy() for point, one in sums.success.items()}
        for point, one in sums.classes.items():
            found |= {f"right {point.name}": one.where_right.numpy(), f"elsewhere {point.name}": one.elsewhere.numpy()}
            found |= {"n_right": one.n_right, "n_elsewhere": one.n_elsewhere}  # the same at every point
        return found

    def _from_arrays(self, found: dict[str, np.ndarray]) -> BatchSums:
        def tensor(name: str) -> Tensor:
            return torch.from_numpy(found[name])

        def sums_at(point: HookPoint) -> ClassSums:
            where_right, elsewhere = tensor(f"right {point.name}"), tensor(f"elsewhere {point.name}")
            return ClassSums(where_right, elsewhere, found["n_right"], found["n_elsewhere"])

        success = {point: tensor(f"success {point.name}") for point in self.points}
        classes = {point: sums_at(point) for point in self.points} if self.tokens else {}
        return BatchSums(int(found["samples"]), success, found["numbers"].tolist(), classes)
