"""What a set is asked to beat, as a value: how many controls, and the rivals of a tournament. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError

PROMPTS, OFFSET, DIFFERENCE, CONSTRAINED = "prompts", "offset", "difference", "constrained"
RIVALS: dict[str, str] = {
    PROMPTS: "the better prompts that come with the task",
    OFFSET: "the unsteered model with the constant per class that serves it best",
    DIFFERENCE: "the difference of activations of right and wrong answers, without SAE",
    CONSTRAINED: "the unsteered model held to the choices",
}
"""Kinds of rivals that can be asked for by name, in words."""
ALL = "all"

CONTROLS = 19
"""Random sets: the fewest with which a set that beats them all has a permutation p of 0.05."""
MATCHED = 5
"""Sets chosen alike among random features; each repeats the whole choice."""


@dataclass(frozen=True)
class Against:
    """The rivals asked for. Raises CorrSteerError for a kind that is not one of RIVALS, and an empty text."""

    kinds: tuple[str, ...] = ()
    """Names of RIVALS."""
    systems: tuple[str, ...] = ()
    """Texts of the user's own, each put before every prompt."""
    shots: int = 0
    """So many examples of the training split before every prompt."""
    examples: Path | None = None
    """A file with examples of the user's own."""

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in RIVALS]:
            raise CorrSteerError(
                f"There is no rival {unknown[0]!r}; a set can be put against {', '.join(RIVALS)}, or {ALL}."
            )
        if any(not text.strip() for text in self.systems):
            raise CorrSteerError("The text to put the set against is empty; write what the prompt should begin with.")
        if self.shots < 0:
            raise CorrSteerError(f"{self.shots} examples were asked for; ask for at least 1.")

    def __bool__(self) -> bool:
        return bool(self.kinds or self.systems or self.shots or self.examples)


def kinds_named(names: Sequence[str]) -> tuple[str, ...]:
    """Kinds from their names; `all` is every kind there is."""
    given = (names,) if isinstance(names, str) else tuple(names)
    return tuple(RIVALS) if ALL in given else tuple(dict.fromkeys(given))
