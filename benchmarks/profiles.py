"""Where the time goes, measured: for rows that miss their goal."""

from __future__ import annotations

from collections.abc import Callable

MOST = 6


def costs(run: Callable[[], object]) -> str:
    """The operations that most of the time of a run goes to, with their shares of it."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities) as found:
        run()
    attribute = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    spent = sorted(((getattr(event, attribute), event.key) for event in found.key_averages()), reverse=True)
    whole = sum(time for time, _ in spent) or 1
    return ", ".join(f"{key.removeprefix('aten::')} {time / whole:.0%}" for time, key in spent[:MOST])
