"""How long work tells how far it is: one callable, which may also stop the work by raising."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from corrsteer_core.errors import CorrSteerError

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Tells nobody."""


class Reporter:
    """Writes progress with the time left, as a line on standard error and, if asked, to a JSON file.

    `stages` names what is to come with its share of the time, so that the time left is that of the
    whole; without it, the time left is that of the stage at hand.
    """

    def __init__(self, stages: Sequence[tuple[str, float]] = (), file: Path | None = None, quiet: bool = False) -> None:
        self.weights = dict(stages)
        self.file = file
        self.quiet = quiet
        self.started = self.stage_started = time.monotonic()
        self.stage = ""
        self._done = 0
        self._shown = 0.0
        self._width = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self.stage or done < self._done:  # a new stage, or another round of the same
            if self.stage and stage != self.stage and not self.quiet:
                self._end_line()
            self.stage, self.stage_started = stage, now
        self._done = done
        if done < total and now - self._shown < 0.2 and done:
            return
        self._shown = now
        share = done / total if total else 1.0
        left = self._left(share, now)
        if not self.quiet:
            self._line(f"{stage}: {done:,} of {total:,}" + (f", {seconds(left)} left" if left is not None else ""))
        if self.file:
            _replace(
                self.file, {"stage": stage, "done": done, "total": total, "share": self._overall(share), "left": left}
            )

    def note(self, text: str) -> None:
        """A message about something that has no measure of progress."""
        self(text, 0, 1)

    def finish(self) -> None:
        """End the line."""
        if not self.quiet:
            self._end_line()

    def _overall(self, share: float) -> float:
        total = sum(self.weights.values())
        if self.stage not in self.weights or not total:
            return share
        before = 0.0
        for name, weight in self.weights.items():
            if name == self.stage:
                return (before + share * weight) / total
            before += weight
        return share

    def _left(self, share: float, now: float) -> float | None:
        """Seconds left: this stage's by its own pace, the coming ones' by their weight against the past ones'."""
        if share <= 0:
            return None
        spent = now - self.stage_started
        own = spent * (1 - share) / share
        if self.stage not in self.weights:
            return own
        names = list(self.weights)
        later = sum(self.weights[name] for name in names[names.index(self.stage) + 1 :])
        pace = (spent + own) / self.weights[self.stage] if self.weights[self.stage] else 0.0
        return own + later * pace

    def _line(self, text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r" + text.ljust(self._width))
            self._width = len(text)
            sys.stderr.flush()
        elif time.monotonic() - getattr(self, "_logged", 0.0) >= 5:
            self._logged = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def _end_line(self) -> None:
        if sys.stderr.isatty() and self._width:
            sys.stderr.write("\n")
            self._width = 0


def part_of(progress: Progress, before: float, share: float, stage: str = "") -> Progress:
    """Progress of a part of a stage (`share` of it, after `before`), in thousandths of the whole stage.

    With a `stage`, under its name: parts that follow one another are then one bar that never goes back.
    """

    def told(own: str, done: int, total: int) -> None:
        progress(stage or own, round(1000 * (before + share * done / max(total, 1))), 1000)

    return told


def seconds(count: float) -> str:
    """A duration in words: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(count)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _replace(path: Path, content: dict) -> None:
    scratch = Path(f"{path}.{os.getpid()}.tmp")
    try:
        scratch.write_text(json.dumps(content))
        os.replace(scratch, path)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink()
        raise CorrSteerError(
            f"Progress cannot be written to {path}: {error.strerror}; name a file in a folder that is there."
        ) from error
