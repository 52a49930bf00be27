"""The tasks that have a name, a file each: a module here that holds a `TASK`, or several in `TASKS`, is one of them."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from corrsteer_core.tasks.base import Task

FIRST = "sentiment"
"""The task that the first start runs and lists begin with."""


def _found() -> list[Task]:
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    tasks = [task for module in modules for task in (getattr(module, "TASKS", ()) or (module.TASK,))]
    return sorted(tasks, key=lambda task: (task.name != FIRST, task.hub is not None))  # what needs no hub comes first


NAMED: dict[str, Task] = {task.name: task for task in _found()}
