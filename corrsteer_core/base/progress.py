"""How long work tells how far it is: one callable, which may also stop the work by raising."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import NO_ROOM, write_text
from corrsteer_core.base.terminal import message

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Tells nobody."""


PACE, WARM_UP = 0.02, 20.0
"""Share of a stage after which its pace is known, or the seconds after which a rough one is better than none."""


class Reporter:
    """Writes progress with the time left, as a line on standard error and, if asked, to a JSON file.

    `stages` names what is to come with its share of the time, so that the time left is that of the
    whole; without it, the time left is that of the stage at hand.
    """

    def __init__(self, stages: Sequence[tuple[str, float]] = (), file: Path | None = None, quiet: bool = False) -> None:
        self.weights = dict(stages)
        self.file = file
        self.quiet = quiet
        self.stage = ""
        self.stage_started = time.monotonic()
        self._from = 0.0  # share of the stage that was done when it began: what an interrupted run had finished
        self._done = 0
        self._past = (0.0, 0.0)  # weight and seconds of the stages that were gone through here
        self._shown = 0.0
        self._width = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        share = done / total if total else 1.0
        if stage != self.stage or done < self._done:  # a new stage, or another round of the same
            self._past = self._with_this_stage(now - self.stage_started)
            if self.stage and stage != self.stage and not self.quiet:
                self._end_line()
            self.stage, self.stage_started, self._from = stage, now, share
        self._done = done
        if done < total and now - self._shown < 0.2 and done:
            return
        self._shown = now
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
        """Seconds left: this stage's by its own pace, the coming ones' by their weight and the pace of all that was done here.

        None before there is a pace: nothing done yet, or so little that reading the first prompts was most of it.
        """
        spent = now - self.stage_started
        if share < 1 and (share <= self._from or (share - self._from < PACE and spent < WARM_UP)):
            return None
        own = spent * (1 - share) / (share - self._from) if share < 1 else 0.0
        if self.stage not in self.weights:
            return own
        names = list(self.weights)
        later = sum(self.weights[name] for name in names[names.index(self.stage) + 1 :])
        weight, took = self._with_this_stage(spent + own)
        if not later:
            return own
        return own + later * took / weight if weight else None

    def _with_this_stage(self, took: float) -> tuple[float, float]:
        """Weight and seconds of the stages gone through here, were the one at hand to take so long in all."""
        weight, before = self._past
        here = self.weights.get(self.stage, 0.0) * (1 - self._from)
        return (weight + here, before + took) if here else self._past

    def _line(self, text: str) -> None:
        text = message(text)  # a stage may name a file or a model
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

    def of_whole(own: str, done: int, total: int) -> None:
        progress(stage or own, round(1000 * (before + share * done / max(total, 1))), 1000)

    return of_whole


def seconds(count: float) -> str:
    """A duration in words: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(count)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _replace(path: Path, content: dict) -> None:
    try:
        write_text(path, json.dumps(content), lasting=False)
    except OSError as error:
        if error.errno in NO_ROOM:
            return  # the work itself says so where it matters, or has room by then
        raise CorrSteerError(
            f"Progress cannot be written to {path}: {error.strerror}; name a file in a folder that is there."
        ) from error
