"""A steering set for other programs: makes its vectors and writes the files of one of the `export_formats`.

Vectors are written with the set's global scale in them; nothing is left to multiply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import not_written, write_all_new, write_bytes
from corrsteer_core.engine.export_formats import FORMATS, Material, get_format
from corrsteer_core.engine.operations import Vectors
from corrsteer_core.engine.steering import check_model, variant_of
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.saes.sae import Sae


def exported(
    steering: SteeringSet, wanted: str, stem: str, model: Model | None = None, saes: Sequence[Sae] = ()
) -> dict[str, bytes]:
    """The files of an export, by name (`stem` with the format's suffix); a script brings its vectors along.

    JSON needs neither model nor SAEs, the rest does. Raises CorrSteerError for a format that is not known, a set of
    another model or SAE, one with nothing switched on, and one that the format cannot express.
    """
    chosen = get_format(wanted)
    check_expressible(steering, wanted)
    if chosen.make is None:
        return {f"{stem}{chosen.suffix}": (steering.to_json() + "\n").encode()}
    if model is None:
        raise CorrSteerError(f"The export of {steering.name!r} as {wanted} needs the model {steering.model}; load it.")
    return chosen.make(Material(steering, stem, model, _variant(steering, model, saes)))


def check_expressible(steering: SteeringSet, wanted: str) -> None:
    """Raise CorrSteerError where some row does not just add and the format can say nothing else."""
    row = steering.not_plain
    if row is not None and not get_format(wanted).operations:
        others = " or ".join(name for name, one in FORMATS.items() if one.operations)
        raise CorrSteerError(
            f"An export as {wanted} can only add the same vector at every generated token, but in the steering set "
            f"{steering.name!r} the row for feature {row.feature} of layer {row.layer} does not ({row.does}); export it as {others}, "
            f"or switch that row off."
        )


def write_new(folder: Path, files: Mapping[str, bytes], *, replace: bool = False) -> list[Path]:
    """Write files into a folder. Raises CorrSteerError, before anything is written, if one is there already."""
    paths = [folder / name for name in files]
    if not replace:
        refuse_existing(paths)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        contents = dict(zip(paths, files.values(), strict=True))
        if replace:
            for path, content in reversed(contents.items()):  # a script after the vectors that it reads
                write_bytes(path, content)
        else:
            write_all_new(contents)
    except OSError as error:
        raise not_written("The export", folder, error) from error
    return paths


def refuse_existing(paths: Sequence[Path]) -> None:
    """Raise CorrSteerError if one of the files is there already."""
    if there := [path for path in paths if path.exists()]:
        raise CorrSteerError(f"{there[0]} is there already; name another file, or add --force to replace it.")


def files_of(wanted: str, out: Path) -> list[Path]:
    """Which files an export to `out` makes."""
    return [out, *(out.with_suffix(suffix) for suffix in get_format(wanted).beside)]


def _variant(steering: SteeringSet, model: Model, saes: Sequence[Sae]) -> Vectors:
    """What the set does, at one hook point at least; all of it finite and placed in the model."""
    check_model(steering, model)
    found = variant_of(steering, saes)
    if not found:
        raise CorrSteerError(
            f"No feature of the set {steering.name!r} is switched on, so there is no vector to export; switch one on."
        )
    for point in found:
        model.site(point)
    return found
