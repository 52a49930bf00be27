"""A model's tokenizer and chat template without its weights, from this machine alone: to show prompts before a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.base.paths import EMBEDDED, embedded_place


@dataclass(frozen=True)
class Words:
    """What prompts are put into (a `prompts.Speaker`)."""

    name: str
    tokenizer: Any

    @property
    def has_chat_template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))


def words_of(name: str) -> Words:
    """The words of a model by hub id, folder or embedded name. Raises CorrSteerError where they are not on this machine.

    Nothing is downloaded or unpacked, no code of the model is run.
    """
    from transformers import AutoTokenizer

    source = str(embedded_place()) if name == EMBEDDED else name
    try:
        return Words(name, AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=True))
    except Exception as error:  # missing and broken files fail in many ways
        raise CorrSteerError(
            f"The tokenizer of {name} is not on this machine yet ({first_line(error)[:200]}); the run gets it."
        ) from error
