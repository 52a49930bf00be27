"""Which run a job makes: known by what the job was asked, since its run has no name before it has samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from app.demo import DEMO
from app.shared import resources
from corrsteer_core.base import jobs
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.inspection.descriptions import GUESSED
from corrsteer_core.runs import run_facts
from corrsteer_core.saes.presets import PRESETS

DECIDING = ("--task", "--scorer", "--data", "--columns", "--model", "--limit", "--pooling", "--shots")
"""Options of `fit` that tell a run from another and are always written in the same way."""

DESCRIBED = f"--describe={GUESSED}"
"""Of every `fit` that the app starts: the foremost features can then be found by their words."""


def makes(job: jobs.Job, facts: run_facts.RunFacts) -> bool:
    """Whether a job is the one that collects and fits a run: what it asks for is what the run was made with.

    What it leaves to the task or the model (the answers' length, the chat template) is not compared.
    """
    config = facts.config
    if job.arguments == DEMO:
        return config["task"] == run_facts.DEMO_TASK and config["model"] == EMBEDDED
    if job.arguments[0] != "fit":
        return False
    asked, own = _options(job.arguments), _options(run_facts.fit_arguments(facts.run))
    if preset := PRESETS.get(asked.get("--preset", "")):
        asked.setdefault("--model", preset.model)
    length = asked.get("--max-new-tokens", own["--max-new-tokens"])
    return (
        all(asked.get(name) == own.get(name) for name in DECIDING)
        and length == own["--max-new-tokens"]
        and _same_style(job.arguments, config["style"])
        and _same_saes(job.arguments, facts)
    )


def _same_style(arguments: Sequence[str], style: Mapping[str, Any]) -> bool:
    """Whether a command puts its prompts as a run does; one that names no chat template may use it or not."""
    if _options(arguments).get("--system", "") != style["system"]:
        return False
    return ("--no-chat" if style["chat"] else "--chat") not in arguments


def _same_saes(arguments: Sequence[str], facts: run_facts.RunFacts) -> bool:
    """Whether a command names the SAEs of a run: each by itself, or by the folder that it is in."""
    layers = _options(arguments).get("--layers")
    if layers is not None and {one.strip() for one in layers.split(",")} != set(map(str, facts.layers)):
        return False  # compared as written: what was asked for may be no numbers at all
    read = [PurePath(sae["source"]) for sae in facts.config["saes"]]
    named = [PurePath(source) for source in _sources(arguments)]
    if not all(any(one.is_relative_to(source) for source in named) for one in read):
        return False
    return layers is not None or all(any(one.is_relative_to(source) for one in read) for source in named)


def _sources(arguments: Sequence[str]) -> list[str]:
    """What a command reads its SAEs from, before it takes some layers of it."""
    if preset := PRESETS.get(_options(arguments).get("--preset", "")):
        return preset.sources()
    return [one.partition("=")[2] for one in arguments if one.startswith("--sae=")] or ["embedded"]


def run_of(job: jobs.Job) -> str | None:
    """The newest readable run that a job makes; None where there is none yet."""
    found = resources.runs()
    readable = found.loc[found["problem"].isna(), "run"] if len(found) else []
    return next((str(run) for run in readable if makes(job, resources.ask(run_facts.facts, run))), None)


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """The options of a command line that have a value, by name."""
    found = (one.partition("=") for one in arguments)
    return {name: value for name, equals, value in found if equals}
