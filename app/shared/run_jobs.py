"""Which run a job makes: known by what the job was asked, since its run has no name before it has samples."""

from __future__ import annotations

from collections.abc import Sequence

from app.demo import DEMO
from app.shared import resources
from corrsteer_core.base import jobs
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.runs import run_facts
from corrsteer_core.saes.presets import PRESETS

DECIDING = ("--task", "--scorer", "--data", "--columns", "--model", "--limit", "--pooling", "--shots")
"""Options of `fit` that tell a run from another and are always written in the same way."""


def makes(job: jobs.Job, facts: run_facts.RunFacts) -> bool:
    """Whether a job is the one that collects and fits a run: what it asks for is what the run was made with."""
    config = facts.config
    if job.arguments == DEMO:
        return config["task"] == run_facts.DEMO_TASK and config["model"] == EMBEDDED
    if job.arguments[0] != "fit":
        return False
    asked, own = _options(job.arguments), _options(run_facts.fit_arguments(facts.run))
    if preset := PRESETS.get(asked.get("--preset", "")):
        asked["--model"] = preset.model
    layers = set(asked["--layers"].split(",")) if "--layers" in asked else set(map(str, facts.layers))
    length = asked.get("--max-new-tokens", own["--max-new-tokens"])
    return (
        all(asked.get(name) == own.get(name) for name in DECIDING)
        and layers == set(map(str, facts.layers))
        and length == own["--max-new-tokens"]
    )


def run_of(job: jobs.Job) -> str | None:
    """The newest readable run that a job makes; None where there is none yet."""
    found = resources.runs()
    readable = found.loc[found["problem"].isna(), "run"] if len(found) else []
    return next((str(run) for run in readable if makes(job, resources.ask(run_facts.facts, run))), None)


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """The options of a command line that have a value, by name."""
    found = (one.partition("=") for one in arguments)
    return {name: value for name, equals, value in found if equals}
