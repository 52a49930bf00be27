"""What was tried and what failed, by kind."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Trials and failures of one kind."""

    kind: str
    trials: int = 0
    failures: list[str] = field(default_factory=list)
    left_out: str = ""
    """Why nothing of the kind was tried; empty where it was."""

    def note(self, what: str, problem: str) -> None:
        """One trial; `problem` is empty where everything held."""
        self.trials += 1
        if problem:
            self.failures.append(f"{what}: {problem}")
            print(f"  failed: {self.failures[-1]}", flush=True)


@dataclass(frozen=True)
class Bounds:
    """How much of one kind is tried: so many trials, or for so long, whichever ends first."""

    trials: int
    seconds: float

    def numbers(self):
        """The numbers of the trials, until the time is over; one at least."""
        until = time.monotonic() + self.seconds
        for nth in range(self.trials):
            if nth and time.monotonic() > until:
                return
            yield nth


def table(tallies: list[Tally]) -> str:
    """The tallies as a table in Markdown."""
    rows = [
        f"| {one.kind}{f' (left out: {one.left_out})' if one.left_out else ''} | {one.trials:,} | {len(one.failures)} |"
        for one in tallies
    ]
    total = f"| all | {sum(one.trials for one in tallies):,} | {sum(len(one.failures) for one in tallies)} |"
    return "\n".join(["| kind | trials | failures |", "| --- | ---: | ---: |", *rows, total])
