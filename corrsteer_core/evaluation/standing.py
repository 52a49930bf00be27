"""How a set stands beside one rival of its tournament, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.statistics.rates import wilson
from corrsteer_core.statistics.rival import RivalComparison


@dataclass(frozen=True)
class Standing:
    """A rival and the set, on the same samples, each as it answers."""

    kind: str
    """prompt, offset, difference or constrained."""
    beside: RivalComparison
    """Flips from failure under the rival to success under the set, and back; p, and Holm's over the tournament."""
    unsteered_rate: float
    prompt: PromptStyle | None = None
    """How the rival asks, where it asks otherwise."""

    def row(self) -> dict[str, Any]:
        """The numbers by the names of the command line, ready for JSON. Intervals are at 95%."""
        one = self.beside
        n = one.flips.n
        return {
            "rival": one.rival,
            "kind": self.kind,
            "n": n,
            "rate": one.rival_rate,
            "rate_interval": list(wilson(one.rival_rate * n, n)),
            "effect": one.rival_rate - self.unsteered_rate,
            "difference": one.difference,
            "difference_interval": one.interval,
            "positive_flips": one.flips.positive,
            "negative_flips": one.flips.negative,
            "p": one.p,
            "p_corrected": one.corrected_p,
            **({"prompt": asdict(self.prompt)} if self.prompt else {}),
        }


@dataclass(frozen=True)
class LeftOut:
    """A rival or a control that was asked for and was not measured."""

    rival: str
    why: str
    """A sentence."""
