"""Whether everything in the cache is whole: runs, models, SAEs, uploads, sets, jobs; what can be repaired, and is.

Runs are read to the last value (DuckDB keeps a checksum of every block). Uploads and sets carry a hash of their
content in their name. Models and SAEs have none: it is checked that their files are all there and as long as they say.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corrsteer_core.base import files, jobs
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED_SAES, cache_dir
from corrsteer_core.storage.database import LOG, PRIVATE, check_file, connect, locked, put_aside, run_in
from corrsteer_core.storage.reading import let_go, query
from corrsteer_core.storage.run_folder import PUBLISHED, database_path, runs_dir

Kind = Literal["run", "model", "SAE", "upload", "set", "job", "leftover"]
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it


@dataclass(frozen=True)
class Checked:
    """What was found of one thing in the cache."""

    kind: Kind
    name: str
    path: Path
    problem: str
    """What is wrong with it, in words; empty where it is whole."""
    done: str = ""
    """What was done about it; empty where nothing was."""

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with it any more."""
        return not self.problem or bool(self.done)


def check_cache(*, repair: bool = False) -> list[Checked]:
    """Look at everything in the cache. With `repair`, also repair or put aside what can be: nothing whole is touched.

    What could still hold something is put aside under another name, never removed. A run that is being written is
    checked as it was published.
    """
    found: list[Checked] = []
    for each in (_runs, _models, _saes, _uploads, _sets, _jobs, _leftovers):
        found += each(repair)
    return found


# --- runs ----------------------------------------------------------------------------------------


def _runs(repair: bool) -> Iterator[Checked]:
    for folder in _folders(runs_dir()):
        published, private = folder / PUBLISHED, folder / PRIVATE
        problem = _problem_of_run(published) if published.exists() or not private.exists() else "it was never published"
        done = _repaired_run(folder) if problem and repair else ""
        yield Checked("run", folder.name, published, problem, done)


def _problem_of_run(path: Path) -> str:
    if not path.exists():
        return f"there is no {path.name} in its folder; delete the folder {path.parent}."
    let_go()  # or what this process has in memory would be checked
    try:
        check_file(path)
        connection = connect(path, read_only=True)
        try:
            name = run_in(connection)
        finally:
            connection.close()
    except CorrSteerError as error:
        return str(error)
    if name != path.parent.name:
        return f"the folder holds the run {name}, copied or renamed: it can be read, but nothing can be added."
    return ""


def _repaired_run(folder: Path) -> str:
    """Publish what an interrupted writer left, if that is whole; what is published is put aside. Empty if it cannot be."""
    published, private = folder / PUBLISHED, folder / PRIVATE
    try:
        lock = locked(folder)
    except CorrSteerError:
        return ""
    try:
        if not private.exists():
            return ""
        connection = connect(private)
        try:
            connection.execute("CHECKPOINT")
            mine = run_in(connection) == folder.name
        finally:
            connection.close()
        check_file(private)
        if not mine or private.with_name(PRIVATE + LOG).exists():
            return ""
        aside = put_aside(published) if published.exists() else None
        files.move(private, published)
        return "published what an interrupted command had left" + (f"; the damaged file is {aside}" if aside else "")
    except (CorrSteerError, OSError):
        return ""
    finally:
        lock.release()


# --- models and SAEs -----------------------------------------------------------------------------


def _models(repair: bool) -> Iterator[Checked]:
    for folder in _folders(cache_dir() / "models"):
        problem = _problem_of_weights(folder, "config.json", "tokenizer.json")
        done = _put_aside(folder, "it is made again when it is needed") if problem and repair else ""
        yield Checked("model", folder.name, folder, problem, done)


def _saes(repair: bool) -> Iterator[Checked]:
    folders = {folder: folder.name for folder in _folders(EMBEDDED_SAES)}
    for run in _folders(runs_dir()):
        folders |= {Path(source): source for source in _sources(run.name) if Path(source).is_absolute()}
    for folder, name in folders.items():
        yield Checked("SAE", name, folder, _problem_of_weights(folder, "cfg.json"))


def _sources(run: str) -> list[str]:
    """Where the SAEs of a run come from; none for a run that cannot be read."""
    sql = "SELECT unnest(from_json(config->'saes', '[\"JSON\"]'))->>'source' AS source FROM runs"
    try:
        return [source for source in query(run, sql)["source"] if isinstance(source, str)]
    except CorrSteerError:
        return []


def _problem_of_weights(folder: Path, *texts: str) -> str:
    """What is wrong with a folder of safetensors and JSON files, of which `texts` must be there."""
    if not folder.is_dir():
        return f"there is no folder {folder}."
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        return f"there are no weights (*.safetensors) in {folder}."
    problems = [_problem_of_json(folder / name) for name in texts] + [_problem_of_tensors(path) for path in weights]
    return next(filter(None, problems), "")


def _problem_of_json(path: Path) -> str:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"{path} cannot be read ({error})."
    return "" if isinstance(body, dict) else f"{path} is no JSON object."


def _problem_of_tensors(path: Path) -> str:
    """Whether a safetensors file has a header, and as many bytes as that says."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= _LONGEST_HEADER:
                return f"{path} has no header of safetensors."
            header = json.loads(file.read(length))
        ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
        expected, actual = 8 + length + max(ends, default=0), path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        return f"{path} cannot be read ({error})."
    return "" if expected == actual else f"{path} has {actual:,} bytes where its header says {expected:,}."


# --- files that carry their hash -----------------------------------------------------------------


def _uploads(repair: bool) -> Iterator[Checked]:
    for path in _files(cache_dir() / "uploads"):
        yield _hashed("upload", path, path.parent.name, repair)


def _sets(repair: bool) -> Iterator[Checked]:
    for path in _files(cache_dir() / "sets"):
        if path.suffix == ".json":
            yield _hashed("set", path, path.stem.rpartition("-")[2], repair)


def _hashed(kind: Kind, path: Path, digest: str, repair: bool) -> Checked:
    """A file whose content has a hash that begins with `digest`."""
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return Checked(kind, path.name, path, f"it cannot be read ({error.strerror}).")
    if digest and actual.startswith(digest):
        return Checked(kind, path.name, path, "")
    done = _put_aside(path, "give it again") if repair else ""
    return Checked(kind, path.name, path, "its content is not the one that it was kept with.", done)


# --- jobs and what is left over ------------------------------------------------------------------


def _jobs(repair: bool) -> Iterator[Checked]:
    for folder in _folders(cache_dir() / "jobs"):
        problem = ""
        try:
            jobs.job(folder.name)
        except CorrSteerError:
            problem = "its files are damaged, so it is not in the list of jobs; what it finished is kept with its run."
        done = _put_aside(folder, "start its work again") if problem and repair else ""
        yield Checked("job", folder.name, folder, problem, done)


def _leftovers(repair: bool) -> Iterator[Checked]:
    """What processes that are gone left unfinished; and files that were put aside, which are for the user to remove."""
    cache = cache_dir()
    folders = [cache, *(path for path in cache.rglob("*") if path.is_dir() and not path.name.startswith("."))]
    for path in (path for folder in folders for path in files.leftovers(folder)):
        done = "removed" if repair and _removed(path) else ""
        yield Checked("leftover", path.name, path, "a process that is gone left it unfinished.", done)


def _removed(path: Path) -> bool:
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError:
        return False
    return True


def _put_aside(path: Path, then: str) -> str:
    """Move something damaged out of the way; empty if that fails."""
    place = cache_dir() / "damaged" / path.relative_to(cache_dir())
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        free = next(
            one for nth in range(1000) if not (one := place.with_name(place.name + (f".{nth}" if nth else ""))).exists()
        )
        path.rename(free)
    except (OSError, StopIteration):
        return ""
    return f"put aside as {free}; {then}"


def _folders(parent: Path) -> list[Path]:
    return _listed(parent, Path.is_dir)


def _files(parent: Path) -> list[Path]:
    """The files in the folders of a folder."""
    return [path for folder in _folders(parent) for path in _listed(folder, Path.is_file)]


def _listed(parent: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if not path.name.startswith(".") and wanted(path))
    except OSError:
        return []


# --- a copy of a run -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Backup:
    """A copy of a run."""

    run: str
    file: Path
    bytes: int
    answered: int
    """Samples that have been answered in it."""


def backup(run: str, out: Path, *, replace: bool = False) -> Backup:
    """Copy what is published of a run into a file, whole, also while the run is written; the copy is read to the last value.

    Raises CorrSteerError for a run that is damaged, a file that is there already, and what the disk refuses.
    """
    source = database_path(run)
    if out.exists() and (not replace or out.resolve() == source.resolve()):
        raise CorrSteerError(f"{out} is there already; name another file, or add --force to replace it.")
    scratch = files.scratch_path(out.parent)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(out.parent)
        files.copy(source, scratch)  # nobody writes into a published file: it is only ever replaced
        answered = _answered(scratch)
        files.move(scratch, out)
    except OSError as error:
        raise files.not_written(f"The backup of {run}", out, error) from error
    finally:
        scratch.unlink(missing_ok=True)
    return Backup(run, out, out.stat().st_size, answered)


def _answered(path: Path) -> int:
    check_file(path)
    connection = connect(path, read_only=True)
    try:
        ((answered,),) = connection.execute("SELECT count(outcome) FROM samples").fetchall()
    finally:
        connection.close()
    return int(answered)
