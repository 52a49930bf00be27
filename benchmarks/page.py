"""docs/benchmarks.md: the machine, the command, one table, and a word on every goal that is missed."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch

from benchmarks.measure import Row


def written(rows: Sequence[Row], command: str, load: tuple[float, float], minutes: float) -> str:
    """The page."""
    lines = [
        "# Benchmarks",
        "",
        f"Written by `{command}` on {date.today().isoformat()}; it took {minutes:.0f} minutes.",
        "",
        f"Machine: {machine()}. Load average when it began and ended: {load[0]:.1f} and {load[1]:.1f}"
        + (
            " (other work was going on; what is compared took turns, see the spread)."
            if max(load) > cores() + 1
            else "."
        ),
        "",
        "Every ratio is the median over repeats in which what is compared takes turns, after one round that is not",
        "counted; in brackets the lowest and the highest repeat. Rows that say *at least* are times faster.",
        "",
        "| row | measured against | ratio | goal | met | from |",
        "| --- | --- | --- | --- | --- | --- |",
        *(line(row) for row in rows),
    ]
    missed = [row for row in rows if not row.met]
    if missed:
        lines += ["", "## Goals that are missed", "", *(_why(row) for row in missed)]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Processor, cores in use, memory and accelerator."""
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    name = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    parts = (
        f"{name or 'unknown processor'}, {cores()} cores, {torch.get_num_threads()} threads for torch, {memory:.0f} GiB"
    )
    return f"{parts}{gpu}, torch {torch.__version__}, Python {platform.python_version()}"


def cores() -> int:
    return os.cpu_count() or 1


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def line(row: Row) -> str:
    low, high = row.spread
    goal = f"{'at least' if row.higher_is_better else 'at most'} {_number(row.goal, row.unit)}"
    ratio = f"{_number(row.ratio, row.unit)} ({_number(low, '')} to {_number(high, '')})"
    return f"| {row.name} | {row.against} | {ratio} | {goal} | {'yes' if row.met else '**no**'} | {row.detail} |"


def _number(value: float, unit: str) -> str:
    digits = 1 if value >= 10 else 2
    text = f"{value:.{digits}f}"
    return text if unit in ("", "x") else f"{text} {unit}"


def _why(row: Row) -> str:
    off = row.goal / row.ratio if row.higher_is_better else row.ratio / row.goal
    goes = f" The time goes to: {row.costs}." if row.costs else ""
    numbers = f"{_number(row.ratio, row.unit)} where {_number(row.goal, row.unit)} is asked, {off - 1:.0%} off"
    return f"- **{row.name}**, against {row.against}: {numbers}.{goes}"
