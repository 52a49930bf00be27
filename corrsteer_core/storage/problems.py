"""What to say of a run's file that DuckDB refuses: recognised by the kind of error and by trying, never by the words of its message."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import NO_ROOM, refused
from corrsteer_core.base.hub_errors import first_line

MISTAKES = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.ConstraintException,
    duckdb.ConversionException,
    duckdb.InvalidInputException,
    duckdb.InvalidTypeException,
    duckdb.NotImplementedException,
    duckdb.OutOfRangeException,
    duckdb.TypeMismatchException,
)
"""Errors of ours in asking; whatever else DuckDB raises comes from the file, the disk or the machine."""


class DamagedError(CorrSteerError):
    """A run's file that does not hold what was written."""


def is_mistake(error: duckdb.Error) -> bool:
    """Whether an error is a bug of ours, to be seen as one."""
    return isinstance(error, MISTAKES)


def is_damage(error: duckdb.Error) -> bool:
    """Whether an error says that a file does not hold what was written: DuckDB's has no kind of its own for it."""
    return type(error) is duckdb.Error or isinstance(error, (duckdb.SerializationException, duckdb.InternalException))


def unreadable(path: Path, error: Exception) -> CorrSteerError:
    """What to say of a run's file that cannot be read; only a damaged one is worth deleting."""
    reason = first_line(error)
    if is_open_elsewhere(path):
        return CorrSteerError(
            f"The cached run in {path} is open for writing in another program ({reason}); close it there and try again."
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return CorrSteerError(
            f"There is too little memory to read the cached run in {path} ({reason}); close other programs and try again."
        )
    if path.is_file() and not os.access(path, os.R_OK):
        return CorrSteerError(f"The cached run in {path} may not be read by this user; give it the right to.")
    if not path.exists():
        return CorrSteerError(f"The cached run in {path} was removed while it was read; choose another.")
    if isinstance(error, duckdb.IOException) and (full := no_room(path.parent)):
        return CorrSteerError(
            f"The cached run in {path} cannot be read, because the disk is full ({full.strerror}); make room there."
        )
    return DamagedError(
        f"The cached run in {path} cannot be read ({reason}): the file is damaged. Put a backup in its place, or delete "
        f"the folder {path.parent} to collect it again."
    )


def unwritable(run: str, path: Path, error: Exception) -> CorrSteerError:
    """What to say of a run's private file that cannot be written; what was published is whole."""
    reason = first_line(error)
    kept = f"What was finished before is kept; run the same command again to go on with {run}."
    if isinstance(error, duckdb.OutOfMemoryException):
        return CorrSteerError(f"There is too little memory to write the run {run} ({reason}). {kept}")
    if isinstance(error, duckdb.IOException):
        cause = refused(path.parent)
        reason = (cause.strerror or reason) if cause else reason
        return CorrSteerError(
            f"The run {run} could not be written to disk ({reason}); check that there is free space in {path.parent} and "
            f"that this user may write there. {kept}"
        )
    return CorrSteerError(f"The run {run} could not be written to {path} ({reason}). {kept}")


def no_room(folder: Path) -> OSError | None:
    """The error with which a full disk refuses a file in a folder; None if it takes one, or refuses for another reason."""
    error = refused(folder)
    return error if error and error.errno in NO_ROOM else None


def is_open_elsewhere(path: Path) -> bool:
    """Whether another process holds a file for writing, as DuckDB does with the ones it writes."""
    if os.name == "nt":
        return _is_refused(path)
    import fcntl

    try:
        with path.open("rb") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return True
            fcntl.lockf(file, fcntl.LOCK_UN)
    except OSError:
        pass  # not there, or not for us: said otherwise
    return False


def _is_refused(path: Path) -> bool:
    """Where opening a file that another program holds is refused."""
    try:
        path.open("rb").close()
    except PermissionError:
        return True
    except OSError:
        return False
    return False
