"""What came of measuring a set, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pandas as pd

from corrsteer_core.evaluation.trials import Comparison


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
    """Random sets of like size, and the sign flipped, against the same unsteered texts."""
    constrained: dict[str, Comparison] = field(default_factory=dict)
    """Multiple choice only: the best of the choices' tokens taken, unsteered and steered, against the same texts."""

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
        }
