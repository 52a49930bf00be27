"""What the files that commands write must be called."""

from __future__ import annotations

from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError


def check_ending(out: Path, what: str, *endings: str) -> None:
    """Raises CorrSteerError that proposes a name unless the file ends in one of these."""
    if out.suffix not in endings:
        better = out.with_suffix(endings[0]) if out.name else out / f"out{endings[0]}"  # "." and "/" have no name
        raise CorrSteerError(f"{what} is a file that ends in {endings[0]}; name it {better}.")
