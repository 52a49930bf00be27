"""Long work as a process of its own: the command line, started in the background, watched and cancelled from elsewhere.

A job is a folder `jobs/<id>` in the cache: what was asked (`job.json`), the process (`process.json`),
how far it is (`progress.json`, written by the command line), what it printed (`log`) and how it ended
(`exit`). So it outlives the page that started it, and whoever looks later sees the same.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil

from corrsteer_core.base import parent, presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import not_written, remove_folder, write_text
from corrsteer_core.base.paths import PACKAGE, cache_dir

INSTANCE = "CORRSTEER_INSTANCE"
"""Environment variable that names the app a job is started from; the app ends its own jobs with itself."""

State = Literal["running", "finished", "failed", "cancelled"]

GOES_ON = ("fit", "select", "study", "demo", "train-sae")
"""Commands that go on where they were stopped; all others begin again."""
KEPT = {
    "evaluate": "Sets that it chose among random features are kept, and its numbers if only rivals were left to measure",
    "sweep": "The numbers of the tasks it has finished are kept",
    "transfer": "The numbers of the tasks it has finished are kept",
}
"""What a command that begins again leaves of its work, where it leaves something."""

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
_ERROR_LINE = re.compile(r"(?:^|: )error: (.+)$")
_STARTING = 10.0  # seconds within which a job's process must have been recorded
_ONE_AT_A_TIME = threading.Lock()  # two clicks come to two threads of one server
_LOG_END = 20_000  # bytes of a log that are searched for its error


@dataclass(frozen=True)
class Job:
    """A job as it stands."""

    id: str
    title: str
    arguments: tuple[str, ...]
    """Of the command line, after `python -m corrsteer_core`."""
    state: State
    stage: str
    """What it is doing, in words."""
    share: float
    """Of the whole, in [0, 1]."""
    seconds_left: float | None
    error: str
    """Why it failed, in one sentence; empty otherwise."""
    started: datetime
    """UTC."""
    stopping: bool = False
    """It has been asked to stop and has not yet."""
    again: bool = True
    """If it failed, the same may go well another time: what is wrong is not in what was asked for."""
    instance: str = ""
    """Of the app, where it was started from (see INSTANCE)."""


def start(arguments: Sequence[str], title: str) -> str:
    """Start `python -m corrsteer_core ARGUMENTS` in the background; returns the job's id.

    One that is doing exactly this already, after a double click say, is not started again: its id is returned.
    Raises CorrSteerError, and leaves nothing, where the cache cannot be written.
    """
    presenting.refuse("No job is started")
    with _ONE_AT_A_TIME:
        found = running(arguments)
        return found.id if found else _begin(arguments, title)


def _begin(arguments: Sequence[str], title: str) -> str:
    started = datetime.now(UTC)
    job = f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    folder = _jobs_dir() / job
    about = {"id": job, "title": title, "arguments": list(arguments), "started": started.isoformat()}
    try:
        folder.mkdir(parents=True)
        _write(folder / "job.json", {**about, "instance": os.environ.get(INSTANCE, "")})
        _launch(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise not_written(f"The job \u201c{title}\u201d was not started: its files", folder, error) from error
    return job


def _launch(folder: Path) -> None:
    """Start the process of a job, which ends at once if it cannot be recorded."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "corrsteer_core.cli.job_process", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=PACKAGE.parent,
            env={**os.environ, **(parent.environment() if os.environ.get(INSTANCE) else {})},
            start_new_session=True,  # a Ctrl-C meant for the terminal's own process is not the job's
        )
    threading.Thread(target=process.wait, daemon=True).start()  # or it would stay a zombie while we live
    try:
        _write(folder / "process.json", {"pid": process.pid, "created": _created(process.pid)})
    except BaseException:
        process.kill()
        raise


def jobs() -> list[Job]:
    """All jobs that have not been forgotten, newest first."""
    folders = sorted(_jobs_dir().glob("*/job.json"), reverse=True)
    found = (_read_job(path.parent) for path in folders if _ID.fullmatch(path.parent.name))
    return [job for job in found if job is not None]


def job(id: str) -> Job:
    """One job. Raises CorrSteerError if there is none of this id."""
    found = _read_job(_folder(id))
    if found is None:
        raise CorrSteerError(f"The job {id} cannot be read; start its work again.")
    return found


def running(arguments: Sequence[str]) -> Job | None:
    """The job that is doing exactly this at the moment, or None."""
    return next((one for one in jobs() if one.state == "running" and one.arguments == tuple(arguments)), None)


def cancel(id: str) -> None:
    """Ask a job to stop, which keeps what it has finished; asked a second time, end it at once.

    One that has ended or been forgotten meanwhile, in another window say, is left alone.
    """
    presenting.refuse("No job is stopped")
    folder = _known(id)
    process = _process(folder) if folder else None
    if folder is None or process is None:
        return
    again = (folder / "cancelled").exists()
    with suppress(OSError):  # forgotten just now, or no room for the mark: it is to stop all the same
        (folder / "cancelled").touch()
    with suppress(psutil.NoSuchProcess):  # it may end just now
        process.send_signal(signal.SIGKILL if again else signal.SIGINT)


def stop(id: str, patience: float = 10.0) -> None:
    """Cancel a job and wait until it has ended; after so many seconds end it at once."""
    folder = _known(id)
    process = _process(folder) if folder else None
    if process is None:
        return
    cancel(id)
    if psutil.wait_procs([process], timeout=patience)[1]:
        cancel(id)
        psutil.wait_procs([process], timeout=patience)


def forget(id: str) -> None:
    """Remove a job that has ended from the list, if it is there; its results stay. Raises CorrSteerError while it runs."""
    presenting.refuse("No job is put away")
    folder = _known(id)
    found = _read_job(folder) if folder else None
    if folder is None or found is None:
        return
    if found.state == "running":
        raise CorrSteerError("This job is still running; cancel it first.")
    with suppress(FileNotFoundError):  # another window may do the same just now
        remove_folder(folder)


def resume(id: str) -> str:
    """Do an ended job's work again, which goes on where it stopped; returns the new id."""
    old = job(id)
    if old.state == "running":
        raise CorrSteerError("This job is still running; cancel it first.")
    new = start(old.arguments, old.title)  # first: where it cannot be started, the old one stays
    forget(id)
    return new


def if_stopped(command: str) -> str:
    """What stopping a command leaves of its work, and what going on with it, by the same command again, does."""
    if command in GOES_ON:
        return "What is finished is kept; it goes on from there."
    return f"{KEPT.get(command, 'Nothing of it is kept')}; it will begin again from the start."


# --- reading a job's folder ----------------------------------------------------------------------


def _read_job(folder: Path) -> Job | None:
    try:
        return _job(folder)
    except FileNotFoundError:  # it was forgotten while it was being read
        return None


def _job(folder: Path) -> Job | None:
    """A job; None where its own file is damaged, for then nobody knows what it was to do (`check-cache` names it)."""
    about = _read(folder / "job.json")
    started = _time(about.get("started"))
    arguments = _words(about.get("arguments"))
    if started is None or not arguments or "title" not in about:
        return None
    progress = _read(folder / "progress.json")
    state = _state(folder, started)
    stopping = state == "running" and (folder / "cancelled").exists()
    return Job(
        id=folder.name,
        title=str(about["title"]),
        arguments=arguments,
        state=state,
        stage="stopping" if stopping else str(progress.get("stage") or "starting"),
        share=min(1.0, max(0.0, _number(progress.get("share")) or 0.0)),
        seconds_left=_left(folder, progress),
        error=_error(folder) if state == "failed" else "",
        started=started,
        stopping=stopping,
        again=_read(folder / "exit").get("again") is not False,
        instance=str(about.get("instance", "")),
    )


def _state(folder: Path, started: datetime) -> State:
    alive = _process(folder) is not None  # asked first: the exit status is written just before the process ends
    status = _read(folder / "exit").get("status")
    if status == 0:
        return "finished"
    if status is None and (alive or _is_starting(folder, started)):
        return "running"
    return "cancelled" if status == 130 or (folder / "cancelled").exists() else "failed"


def _is_starting(folder: Path, started: datetime) -> bool:
    age = (datetime.now(UTC) - started).total_seconds()
    return not (folder / "process.json").exists() and age < _STARTING


def _left(folder: Path, progress: dict[str, Any]) -> float | None:
    left = _number(progress.get("left"))
    if left is None:
        return None
    return max(0.0, left - (time.time() - (folder / "progress.json").stat().st_mtime))


def _number(value: object) -> float | None:
    """A finite number out of a file that may be damaged."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e12 else None


def _time(value: object) -> datetime | None:
    """A time in UTC out of a file that may be damaged."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found and found.tzinfo else None


def _words(value: object) -> tuple[str, ...]:
    """Texts out of a file that may be damaged; empty if they are not."""
    return tuple(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else ()


def _error(folder: Path) -> str:
    """The last error line of the log; a bug leaves none."""
    try:
        with (folder / "log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_END))
            lines = log.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        raise
    except OSError:
        lines = []
    found = [match[1] for line in lines if (match := _ERROR_LINE.search(line.strip()))]
    return found[-1] if found else f"It ended unexpectedly; what it printed is in {folder / 'log'}."


def _process(folder: Path) -> psutil.Process | None:
    """The job's process if it is alive and still the same one (ids are used again by the system)."""
    known = _read(folder / "process.json")
    number, created = _number(known.get("pid")), _number(known.get("created"))
    if number is None or created is None or number < 1:
        return None
    try:
        process = psutil.Process(int(number))
        same = abs(process.create_time() - created) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OverflowError):
        return None


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _jobs_dir() -> Path:
    return cache_dir() / "jobs"


def _known(id: str) -> Path | None:
    """The folder of a job; None if there is none."""
    folder = _jobs_dir() / id if _ID.fullmatch(id) else None
    return folder if folder and folder.is_dir() else None


def _folder(id: str) -> Path:
    folder = _known(id)
    if folder is None:
        raise CorrSteerError(f"There is no job {id!r}; it may have been removed in another window.")
    return folder


def _read(path: Path) -> dict[str, Any]:
    """A small JSON file; empty if it is not there or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content))
