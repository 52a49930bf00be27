"""What things are called on the pages: tasks and splits."""

from __future__ import annotations

from app.shared import components
from corrsteer_core.tasks import TASKS

SPLITS = {
    "test": "Test (held back)",
    "validation": "Validation (used to choose)",
    "train": "Training (used to rank)",
    "shifted": "Shifted: made otherwise, never chosen on",
}


def task_title(task: str) -> str:
    """A task's title; of a user's own task its name."""
    return TASKS[task].title if task in TASKS else components.plain(task)
