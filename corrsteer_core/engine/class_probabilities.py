"""How likely each of a task's classes is at the first generation position: l_ik of sample i and class k.

A class counts only by tokens that are a whole answer: for the class "Positive" the tokens of "Positive", " Positive",
"positive" and " positive". Classes are then distinguished by one forward pass, whatever the text goes on to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from corrsteer_core.models.loading import Model

ClassTokens = tuple[tuple[int, ...], ...]
"""For each class the ids of the tokens that say it, none of them twice; () for the one class of all other tokens."""

LOGITS_TOGETHER = 2**24
"""Logits summed at a time (64 MB of float32)."""


def class_tokens(model: Model, choices: Sequence[str]) -> ClassTokens:
    """The one-token spellings of each choice, after a space or without one; words in lower case too, as scorers take them.

    () when some choice takes several tokens in every spelling (the first of them would be no answer), or shares its only
    tokens with another.
    """
    classes: list[tuple[int, ...]] = []
    taken: set[int] = set()
    for choice in choices:
        spelled = (choice, choice.lower()) if len(choice) > 1 else (choice,)
        texts = [f"{space}{form}" for form in spelled for space in ("", " ")] if choice.strip() else []
        written = [model.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        whole = {ids[0] for ids in written if len(ids) == 1} - taken
        if not whole:
            return ()
        taken |= whole
        classes.append(tuple(sorted(whole)))
    return tuple(classes)


@torch.inference_mode()
def log_probabilities(logits: Tensor, classes: ClassTokens) -> np.ndarray:
    """Log of the summed probability of each class's tokens, (rows, classes) float64, from logits (rows, vocabulary)."""
    rows = max(1, LOGITS_TOGETHER // logits.shape[-1])
    totals = torch.cat([part.float().logsumexp(-1) for part in logits.split(rows)])
    columns = [logits[:, list(ids)].float().logsumexp(-1) - totals for ids in classes if ids]
    found = torch.stack(columns, -1).cpu().double().numpy()
    if () not in classes:
        return found
    rest = np.log1p(-np.exp(found).sum(-1).clip(max=1 - 1e-12))  # what no class names
    return np.insert(found, classes.index(()), rest, axis=-1)
