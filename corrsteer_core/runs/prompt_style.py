"""How a prompt is put to the model, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptStyle:
    """How a prompt is put to the model; part of a run's settings and of every steering set."""

    chat: bool = True
    """Use the model's chat template (False: the text as it is, for base models and plain completions)."""
    system: str = ""
    """System prompt; empty for the template's own default. Put before the first user turn where a template has no role for
    it, and before the whole text where there is no template."""
    shots: tuple[tuple[str, str], ...] = ()
    """Worked examples (prompt, answer) put before every prompt."""
