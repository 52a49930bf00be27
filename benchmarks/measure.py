"""How things are timed: what is compared takes turns, so that a machine that slows down slows both."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of the table: a ratio with its goal, and what it was made from."""

    name: str
    against: str
    ratio: float
    """Median over the repeats."""
    spread: tuple[float, float]
    """Lowest and highest repeat."""
    goal: float
    higher_is_better: bool = False
    unit: str = "x"
    detail: str = ""
    costs: str = ""
    """What the time goes to, where the goal is missed."""

    def of(self, subject: str) -> Row:
        """The same, named by what it was measured on."""
        return replace(self, name=f"{subject}: {self.name}")

    def because(self, costs: str) -> Row:
        """The same with a profile."""
        return replace(self, costs=costs)

    @property
    def met(self) -> bool:
        return self.ratio >= self.goal if self.higher_is_better else self.ratio <= self.goal


def interleaved(what: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat of each, taken in turns after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(repeats + 1):
        for name, run in what.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratios(upper: Sequence[float], lower: Sequence[float], factor: float = 1.0) -> tuple[float, tuple[float, float]]:
    """Median, lowest and highest of upper / lower, repeat by repeat, times a factor."""
    each = [factor * a / b for a, b in zip(upper, lower, strict=True)]
    return statistics.median(each), (min(each), max(each))


def shown(seconds: Mapping[str, Sequence[float]]) -> str:
    """The medians behind a ratio, for the table."""
    return ", ".join(f"{name} {statistics.median(of):.2f} s" for name, of in seconds.items())


def child(*arguments: str) -> dict:
    """What `python -m benchmarks.child` found, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.child", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def own_peak() -> int:
    """Highest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage's, this figure does not begin with that of the process that started ours
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
