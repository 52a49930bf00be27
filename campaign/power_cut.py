"""Power cuts: every operation on files is noted, and played back as a disk would have it after a cut at any moment.

What was written and not flushed may be there, in part, or not; a name that was given and whose folder was not flushed may
be there or not, but not before one that was given earlier. After the command has ended, all must be there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from campaign.actions import Place, actions
from campaign.child import fork
from campaign.interruptions import Known
from campaign.tally import Bounds, Tally
from corrsteer_core.base import files

DRAWS = 3
"""Cuts that are drawn at each operation: each loses something else."""


class NotingDisk(files.Disk):
    """The disk, which notes what is asked of it. Operations: (what, path, content); of a name, in place of the content, the
    name that the file was made under and the folder that holds the new one. A folder is renamed file by file.
    """

    def __init__(self) -> None:
        self.noted: list[tuple[str, Path, Any]] = []
        self.before: dict[Path, bytes | None] = {}

    def _remember(self, path: Path) -> None:
        self.before.setdefault(path, path.read_bytes() if path.is_file() else None)

    def create(self, path: Path) -> BinaryIO:
        self.noted.append(("create", path, None))
        return _Noted(super().create(path), path, self)  # type: ignore[return-value]

    def flush(self, file: BinaryIO) -> None:
        super().flush(file)
        path = Path(file.name)
        self.noted.append(("flush", path, path.read_bytes()))

    def replace(self, source: Path, target: Path) -> None:
        inside = sorted(path.relative_to(source) for path in source.iterdir()) if source.is_dir() else [Path()]
        for name in inside:
            self._remember(target / name)
        super().replace(source, target)
        self.noted += [("name", target / name, (source / name, target.parent)) for name in inside]

    def link(self, source: Path, target: Path) -> None:
        self._remember(target)
        super().link(source, target)
        self.noted.append(("name", target, (source, target.parent)))

    def flush_folder(self, folder: Path) -> None:
        super().flush_folder(folder)
        self.noted.append(("flush folder", folder, None))


class _Noted:
    """A file whose writes are noted."""

    def __init__(self, file: BinaryIO, path: Path, disk: NotingDisk) -> None:
        self._file, self._path, self._disk = file, path, disk

    def write(self, content: bytes) -> int:
        self._disk.noted.append(("write", self._path, bytes(content)))
        return self._file.write(content)

    def __enter__(self) -> _Noted:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def after_cut(disk: NotingDisk, at: int, rng: random.Random) -> dict[Path, bytes | None]:
    """What a disk may hold under every name that was given, when the power goes after `at` operations."""
    written: dict[Path, bytes] = {}  # by the name that a file was made under
    safe: dict[Path, bytes] = {}
    named: list[tuple[Path, Path, Path]] = []  # (name, file, folder), of folders that were not flushed since
    kept: dict[Path, Path] = {}
    for what, path, other in disk.noted[:at]:
        if what == "create":
            written[path], safe[path] = b"", b""
        elif what == "write":
            written[path] += other
        elif what == "flush":
            written[path] = safe[path] = other
        elif what == "name":
            named.append((path, *other))
        else:
            kept.update((name, file) for name, file, folder in named if folder == path)
            named = [one for one in named if one[2] != path]
    kept.update((name, file) for name, file, _ in named[: rng.randint(0, len(named))])
    held = {name: _held(safe.get(file, b""), written.get(file, b""), rng) for name, file in kept.items()}
    moved = {
        other[0] for what, _, other in disk.noted if what == "name"
    }  # not in their place yet: a run's private copy
    return {name: content for name, content in {**disk.before, **held}.items() if name not in moved}


def _held(safe: bytes, written: bytes, rng: random.Random) -> bytes:
    """The content of a file: what was flushed, and of the rest what happened to arrive."""
    return safe if written == safe else written[: rng.randint(0, len(written))]


def lost(disk: NotingDisk, seed: int) -> Iterator[str]:
    """For every cut that is tried, what is wrong after it; "" where every file is the old one or the new one."""
    rng = random.Random(seed)
    whole = after_cut(disk, len(disk.noted), random.Random(0))
    new = {name: {old, *_contents(disk, name)} for name, old in disk.before.items()}
    for at in range(len(disk.noted) + 1):
        for _ in range(DRAWS):
            found = after_cut(disk, at, rng)
            torn = [name.name for name, content in found.items() if content not in new[name]]
            if at == len(disk.noted):
                torn += [name.name for name, content in found.items() if content != whole[name] or not name.is_file()]
                torn += [
                    name.name for name, content in found.items() if name.is_file() and content != name.read_bytes()
                ]
            yield f"after operation {at}: {torn}" if torn else ""


def _contents(disk: NotingDisk, name: Path) -> Iterator[bytes]:
    """Everything whole that was ever given a name."""
    written: dict[Path, bytes] = {}
    for what, path, other in disk.noted:
        if what == "create":
            written[path] = b""
        elif what == "write":
            written[path] += other
        elif what == "flush":
            written[path] = other
        elif what == "name" and path == name:
            yield written.get(other[0], b"")


def power_cuts(place: Place, known: Known, seed: int, bounds: Bounds) -> Tally:
    """Every command once, with a cut at every operation; then again with other draws."""
    tally = Tally("power cuts, played back from what was written and flushed")
    every = actions(place)
    for nth in bounds.numbers():
        action, disk = every[nth % len(every)], NotingDisk()
        cache = known.cache(action)

        def tried(action: Any = action, cache: Path = cache, disk: NotingDisk = disk, nth: int = nth) -> dict[str, Any]:
            status = action.run(cache)
            wrong = list(lost(disk, seed + nth))
            return {"status": status, "trials": len(wrong), "wrong": [one for one in wrong if one]}

        ended = fork(tried, cache, disk).wait()
        if ended.problem or ended.result is None or ended.result["status"]:
            tally.note(action.name, ended.problem or f"it ended with {ended.status}: {ended.printed[-300:]}")
            continue
        tally.trials += ended.result["trials"] - len(ended.result["wrong"][:3])
        for one in ended.result["wrong"][:3]:
            tally.note(f"{action.name} (seed {seed}, trial {nth})", one)
    return tally
