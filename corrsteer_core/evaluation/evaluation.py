"""The result of measuring a set, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from corrsteer_core.evaluation.mirror import Mirror
from corrsteer_core.evaluation.near_ties import NearTies
from corrsteer_core.evaluation.prior import ClassAnswers, Prior
from corrsteer_core.evaluation.standing import LeftOut, Standing
from corrsteer_core.evaluation.trials import Comparison
from corrsteer_core.reporting.rate_rows import NOT_RANDOM
from corrsteer_core.reporting.verdict import Verdict, verdict
from corrsteer_core.statistics.rival import RivalComparison, control_p


@dataclass(frozen=True)
class Evaluation:
    """A set measured on a split, with what it is compared with."""

    name: str
    """Of the set."""
    content: str
    """Hash of the set (see SteeringSet.content)."""
    task: str
    """Name of the exam."""
    split: str
    scale: float
    comparison: Comparison
    fluency_unsteered: float | None
    """Mean over the texts of the mean negative log-likelihood per token, nats; None if no text has a token."""
    fluency_steered: float | None
    samples: pd.DataFrame = field(repr=False)
    """sample, prompt, target, unsteered, steered, outcome_unsteered, outcome_steered."""
    controls: dict[str, Comparison] = field(default_factory=dict)
    """Random sets of like size, the sign flipped, the push on words as a constant, against the same unsteered texts."""
    constrained: dict[str, Comparison] = field(default_factory=dict)
    """Multiple choice only: the best of the choices' tokens taken, unsteered and steered, against the same texts."""
    matched: dict[str, Comparison] = field(default_factory=dict)
    """Sets chosen as this one was, among random features in place of those of highest r (see `method.matched`)."""
    prior: Prior | None = None
    """Tasks with classes only: what one constant per class does, and what the set does beyond it."""
    answers: ClassAnswers | None = None
    """Tasks with classes only: which were answered where which are right."""
    mirror: Mirror | None = None
    """Tasks in which one class is always right: what the set does where it never is."""
    near_ties: NearTies | None = None
    """Answers that hang by a thread, and whether they could turn the verdict."""
    against: dict[str, RivalComparison] = field(default_factory=dict)
    """The set beside each control, matched set and constrained decoding, sample by sample, as the verdict goes by it."""
    frequencies: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Share of training samples in which each feature fires: the set's own under "", then each control's and matched set's."""
    tournament: tuple[Standing, ...] = ()
    """The set beside better prompts and other rivals that were asked for (see `evaluation.tournament`)."""
    left_out: tuple[LeftOut, ...] = ()
    """Rivals that were asked for and could not be measured."""
    chosen_on: bool = False
    """Whether the set was fitted or chosen on these items."""
    strategy: str = ""
    """How the set was chosen; empty for one put together by hand."""
    dtype: str = ""
    """What the model computed in."""
    asked: dict[str, Any] = field(default_factory=dict)
    """How the samples were chosen and asked (`exam.Exam.asked`)."""

    @property
    def verdict(self) -> Verdict:
        """Whether the set works, by the rule of `reporting.verdict`; prints as its sentence."""
        return verdict(self.summary())

    @property
    def permutation_p(self) -> float | None:
        """p that the set is one more random set, by the outcome that the verdict goes by; None without random sets.

        (1 + random sets that do as well) / (1 + random sets); see `statistics.rival.control_p`.
        """
        random = [one for name, one in self.against.items() if name in self.controls and name not in NOT_RANDOM]
        return control_p(random[0].set_rate, [one.rival_rate for one in random]) if random else None

    def summary(self) -> dict:
        """The numbers, ready for JSON."""

        def rivals(found: dict[str, Comparison]) -> dict:
            return {name: {**asdict(one), "effect": one.effect} for name, one in found.items()}

        return {
            "set": self.name,
            "content": self.content,
            "task": self.task,
            "split": self.split,
            "scale": self.scale,
            **asdict(self.comparison),
            "effect": self.comparison.effect,
            "fluency": {"unsteered": self.fluency_unsteered, "steered": self.fluency_steered},
            "controls": rivals(self.controls),
            "constrained": rivals(self.constrained),
            "matched": rivals(self.matched),
            "against": {name: _beside(one) for name, one in self.against.items()},
            "permutation_p": self.permutation_p,
            "frequencies": {name: list(one) for name, one in self.frequencies.items()},
            "tournament": [one.row() for one in self.tournament],
            "left_out": [asdict(one) for one in self.left_out],
            "chosen_on": self.chosen_on,
            "strategy": self.strategy,
            "dtype": self.dtype,
            "asked": self.asked,
            **(self.prior.summary() if self.prior else {}),
            **(self.answers.summary() if self.answers else {}),
            **(self.mirror.summary() if self.mirror else {}),
            **(self.near_ties.summary() if self.near_ties else {}),
        }


def _beside(one: RivalComparison) -> dict:
    return {
        "difference": one.difference,
        "positive_flips": one.flips.positive,
        "negative_flips": one.flips.negative,
        "p": one.p,
        "interval": one.interval,
    }
