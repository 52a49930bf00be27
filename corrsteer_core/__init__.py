"""CorrSteer: find the SAE features that go with success on a task, and steer a language model with them.

    import corrsteer_core as cs

    run = cs.fit("sentiment", cs.load_model())
    v = run.select("V")

Names are loaded when they are first used, torch when a model is. Everything else is in the rooms below
(`runs`, `engine`, `evaluation`, ...).
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corrsteer_core.api.models import load_model as load_model
    from corrsteer_core.api.run import Run as Run
    from corrsteer_core.api.run import list_runs as list_runs
    from corrsteer_core.api.run import open_run as open_run
    from corrsteer_core.api.steering import Steering as Steering
    from corrsteer_core.api.steering import load_set as load_set
    from corrsteer_core.api.study import evaluate as evaluate
    from corrsteer_core.api.study import fit as fit
    from corrsteer_core.api.study import generate as generate
    from corrsteer_core.base.errors import CorrSteerError as CorrSteerError
    from corrsteer_core.runs.sets.rows import Firing as Firing
    from corrsteer_core.runs.sets.rows import SteeringRow as SteeringRow

__version__ = "0.1.0"

# Some operations are not there on Apple's GPUs; PyTorch, which reads this when it is loaded, then uses the CPU for them.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

_HOME = {
    "CorrSteerError": "base.errors",
    "Firing": "runs.sets.rows",
    "SteeringRow": "runs.sets.rows",
    "Run": "api.run",
    "Steering": "api.steering",
    "evaluate": "api.study",
    "fit": "api.study",
    "generate": "api.study",
    "load_model": "api.models",
    "load_set": "api.steering",
    "open_run": "api.run",
    "list_runs": "api.run",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604  the names are those of the table


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
