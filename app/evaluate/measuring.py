"""Measuring steering sets as background jobs: the command line's `evaluate`, `sweep` and `transfer`, sets in files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corrsteer_core.base import jobs
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import not_written, write_text
from corrsteer_core.storage.run_folder import measured_sets

COMMANDS = ("evaluate", "sweep", "transfer")


@dataclass(frozen=True)
class NamedSet:
    """A set that is to be measured."""

    run: str
    name: str
    body: str
    """The set as JSON."""

    @property
    def file(self) -> Path:
        """Where the set is written for the job: a name that can do no harm, another one for another content."""
        stem = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:40] or "set"
        return measured_sets(self.run) / f"{stem}-{hashlib.sha256(self.body.encode()).hexdigest()[:8]}.json"


@dataclass(frozen=True)
class Measurement:
    """One set on one task, with controls."""

    set: NamedSet
    task: str
    split: str = "test"
    limit: int | None = None
    """At most so many samples; None: all of the split."""
    controls: int = 0
    """Random sets of like size to compare with."""
    against: tuple[str, ...] = ()
    """Kinds of rivals to put it against (see `runs.against`)."""
    system: str = ""
    """A better prompt of the user's own: text before every prompt."""

    @property
    def sets(self) -> tuple[NamedSet, ...]:
        return (self.set,)

    @property
    def title(self) -> str:
        return f"Measure {self.set.name} on {self.task} ({self.split})"

    def arguments(self, config: Mapping[str, Any]) -> list[str]:
        """The command line's arguments; `config` is the run's, for a task of the user's own."""
        own = self.task == config["task"] and config.get("scorer")
        task = ["--task", self.task]
        if own:
            task = ["--scorer", config["scorer"], "--data", config["data"]]
            task += ["--max-new-tokens", str(config["max_new_tokens"])]
        return [
            *("evaluate", "--set", str(self.set.file), *task, "--split", self.split),
            *("--controls", str(self.controls), *_limited(self.limit)),
            *(("--against", ",".join(self.against)) if self.against else ()),
            *((f"--against-system={self.system}",) if self.system.strip() else ()),
            "--json",
        ]


@dataclass(frozen=True)
class Sweep:
    """One set at several scales on some tasks."""

    set: NamedSet
    tasks: tuple[str, ...]
    scales: tuple[float, ...]
    split: str = "test"
    limit: int | None = None

    @property
    def sets(self) -> tuple[NamedSet, ...]:
        return (self.set,)

    @property
    def title(self) -> str:
        return f"Measure {self.set.name} at {len(self.scales)} scales on {', '.join(self.tasks)} ({self.split})"

    def arguments(self, _config: Mapping[str, Any]) -> list[str]:
        """The command line's arguments."""
        tasks = [part for task in self.tasks for part in ("--task", task)]
        scales = ",".join(f"{scale:g}" for scale in self.scales)
        return [
            *("sweep", "--set", str(self.set.file), *tasks, f"--scales={scales}", "--split", self.split),
            *(*_limited(self.limit), "--json"),
        ]


@dataclass(frozen=True)
class Transfer:
    """Several sets on several tasks."""

    sets: tuple[NamedSet, ...]
    tasks: tuple[str, ...]
    split: str = "test"
    limit: int | None = None

    @property
    def title(self) -> str:
        return f"Measure {len(self.sets)} sets on {', '.join(self.tasks)} ({self.split})"

    def arguments(self, _config: Mapping[str, Any]) -> list[str]:
        """The command line's arguments."""
        sets = [part for one in self.sets for part in ("--set", str(one.file))]
        tasks = [part for task in self.tasks for part in ("--task", task)]
        return ["transfer", *sets, *tasks, "--split", self.split, *_limited(self.limit), "--json"]


def _limited(limit: int | None) -> list[str]:
    return ["--limit", str(limit)] if limit else []


def start(asked: Measurement | Sweep | Transfer, config: Mapping[str, Any]) -> str:
    """Write the sets' files and start the job; returns its id. Raises CorrSteerError if the same is being measured."""
    arguments = asked.arguments(config)
    if jobs.running(arguments):
        raise CorrSteerError("This very measurement is running already; its progress is shown above.")
    for one in asked.sets:
        try:
            one.file.parent.mkdir(parents=True, exist_ok=True)
            write_text(one.file, one.body)
        except OSError as error:
            raise not_written("The set", one.file, error) from error
    return jobs.start(arguments, asked.title)


def of_run(run: str) -> list[jobs.Job]:
    """The measurements of a run's sets that have not been put away, newest first."""
    folder = measured_sets(run)
    return [
        job
        for job in jobs.jobs()
        if job.arguments[0] in COMMANDS and job.arguments[1] == "--set" and Path(job.arguments[2]).parent == folder
    ]
