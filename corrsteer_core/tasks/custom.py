"""A user's own task: a file with `prompt`, `target` and, if they like, `split`, and a named scorer."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks.base import Scorer, Task
from corrsteer_core.tasks.columns import Columns
from corrsteer_core.tasks.hints import close_match
from corrsteer_core.tasks.parse import verbatim
from corrsteer_core.tasks.scoring.judges import JUDGES, load_judge
from corrsteer_core.tasks.scoring.scorers import SCORERS, TARGETLESS


def custom_task(
    scorer: str,
    data: Path,
    *,
    max_new_tokens: int = 16,
    chat: bool = True,
    columns: Columns = (),
    title: str | None = None,
    description: str | None = None,
) -> Task:
    """A task named "custom-<file's stem>" whose items `load_items(task)` reads from `data`.

    `scorer` is one of SCORERS, or a judge's name (loaded here, an error if it cannot be had); `columns` says which column
    of the file holds what.
    """
    data = Path(data)
    if max_new_tokens < 1:
        raise CorrSteerError(f"max_new_tokens is {max_new_tokens}, but an answer needs at least 1 token.")
    score = get_scorer(scorer)
    return Task(
        name=f"custom-{_slug(data)}",
        title=title or data.name,
        description=description or f"Items from {data.name}. Success: as the scorer {scorer} says.",
        max_new_tokens=max_new_tokens,
        chat=chat,
        scorer=score,
        needs_target=score not in TARGETLESS and getattr(score, "needs_target", True),
        source=str(data),
        parse=verbatim,
        fields=("prompt",),
        file=data,
        columns=columns,
    )


def get_scorer(name: str) -> Scorer:
    """A scorer or judge by name. Raises CorrSteerError that names those there are."""
    if name in JUDGES:
        return load_judge(name)
    if name not in SCORERS:
        known = [*SCORERS, *JUDGES]
        hint = close_match(name, known)
        raise CorrSteerError(f"There is no scorer {name!r}{hint}; choose one of {', '.join(known)}.")
    return SCORERS[name]


def _slug(path: Path) -> str:
    """The file's stem in [a-z0-9-]; what is left of "Café notes.jsonl.gz" is "cafe-notes"."""
    stem = path.name.split(".")[0] if not path.name.startswith(".") else path.name.strip(".").split(".")[0]
    ascii_only = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-") or "task"
