"""A disk that fails, or kills the process, at one of its operations."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, BinaryIO

from corrsteer_core.base import files

KILL, SHORT = "kill", "short write"


class BadDisk(files.Disk):
    """At operation `at` (from 1) of the project's own file operations something happens; 0: nothing, they are counted.

    `what` is KILL, SHORT (half of a write arrives, then an I/O error) or an error's code; `stays` lets every later
    operation fail too, as a full disk does.
    """

    def __init__(self, at: int = 0, what: int | str = 0, stays: bool = False) -> None:
        self.at, self.what, self.stays, self.done = at, what, stays, 0

    def step(self, file: Any = None, content: bytes = b"") -> None:
        """One operation is about to be done."""
        self.done += 1
        if not self.at or self.done < self.at or (self.done > self.at and not self.stays):
            return
        if file is not None and content and self.what in (KILL, SHORT):
            file.write(content[: len(content) // 2])
            file.flush()
        if self.what == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        code = self.what if isinstance(self.what, int) else 5
        raise OSError(code, os.strerror(code))

    def create(self, path: Path) -> BinaryIO:
        self.step()
        return _Counted(super().create(path), self)  # type: ignore[return-value]

    def flush(self, file: BinaryIO) -> None:
        self.step()
        super().flush(file)

    def replace(self, source: Path, target: Path) -> None:
        self.step()
        super().replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        self.step()
        super().link(source, target)

    def flush_folder(self, folder: Path) -> None:
        self.step()
        super().flush_folder(folder)


class _Counted:
    """A file whose writes are operations of the disk."""

    def __init__(self, file: BinaryIO, disk: BadDisk) -> None:
        self._file, self._disk = file, disk

    def write(self, content: bytes) -> int:
        self._disk.step(self._file, bytes(content[:4096]))
        return self._file.write(content)

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
