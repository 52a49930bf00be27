"""Rows from the Hugging Face hub: the repository's own data files, read as local files are.

`datasets` is left out on purpose: heegyu/bbq is a script, which it no longer runs, and plain files
also come out of a filled hub cache with the network off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks.base import HubSource
from corrsteer_core.tasks.rows import Row, read_rows

# Not .json: repositories keep their own bookkeeping (dataset_infos.json) in it.
KINDS = (".parquet", ".jsonl", ".csv")
_SPLIT_WORD = re.compile(r"(?:^|[-_./])(auxiliary_train|train|validation|dev|test)(?=[-_./])")


def hub_rows(source: HubSource) -> Iterator[Row]:
    """Every row of the source's native splits, test first. Raises CorrSteerError when any of them cannot be loaded."""
    folder = _snapshot(source)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in KINDS)
    by_split: dict[str, list[Path]] = {}
    for path in files:
        inside = path.relative_to(folder).as_posix()
        if inside.startswith(source.folder):
            by_split.setdefault(_native_split(inside.removeprefix(source.folder), source), []).append(path)
    for role in (source.test, source.fit, source.pool):
        if role and not any(name in by_split for name in role):
            raise CorrSteerError(
                f"The hub data set {source.repo} as downloaded has no {' or '.join(role)} file in "
                f"{source.folder or 'it'}; download it again, or give the items with --data FILE."
            )
    for native in source.native:
        for path in by_split.get(native, []):
            yield from (replace(row, native=native) for row in read_rows(path))


def _native_split(inside: str, source: HubSource) -> str:
    """The split that a file's path says; a set in one piece need not say it (BBQ's data/Age.jsonl)."""
    found = _SPLIT_WORD.findall(inside)
    only = source.native[0] if len(source.native) == 1 else ""
    return found[-1] if found else only


def _snapshot(source: HubSource) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    patterns = [f"{source.folder}*{kind}" for kind in KINDS]
    try:
        return Path(snapshot_download(source.repo, repo_type="dataset", allow_patterns=patterns))
    except GatedRepoError as error:
        raise CorrSteerError(
            f"The hub data set {source.repo} is gated; accept its terms on the hub and log in with 'hf auth login', "
            f"or give the same fields with --data FILE."
        ) from error
    except Exception as error:  # network, cache and hub fail in many ways, and each is for the user to fix
        why = "its terms must be accepted there first, and " if source.gated else ""
        raise CorrSteerError(
            f"The hub data set {source.repo} could not be had ({type(error).__name__}): {why}the hub must be reachable "
            f"or the set in its cache; --data FILE with the same fields works too."
        ) from error
