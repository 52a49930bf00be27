"""From a source that a user names to SAEs in memory, as SAELens loads them.

A source is "embedded", a folder (one SAELens SAE, or a folder of such), "release/id" of the SAELens
registry, or "owner/repository/folder" of the hub with an SAE in SAELens' format.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import first_line, hub_reason
from corrsteer_core.base.paths import EMBEDDED, EMBEDDED_SAES
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.saes.registry import FOLDED, releases

EMBEDDED_SOURCE = "embedded"
"""Source of the SAEs that ship with the tool."""


@dataclass(frozen=True)
class Found:
    """An SAE of a source, not read yet."""

    label: str
    layer: int | None
    """The block it reads at, where that is known without reading it."""
    load: Callable[[], Any]
    """Reads it: a SAELens SAE in float32 on the CPU. Raises CorrSteerError for what cannot be loaded."""


def saes_in(source: str, model: str) -> list[Found]:
    """The SAEs of a source for a model of this name. Raises CorrSteerError for what is not there."""
    for find in FORMATS.values():
        if (found := find(source, model)) is not None:
            return found
    raise CorrSteerError(
        f"There is no folder {source}, and it is not of the form release/id with a release that SAELens knows; "
        f"search them with 'python -m corrsteer_core saes WORD'."
    )


def _shipped(source: str, model: str) -> list[Found] | None:
    """Those that come with the tool: "embedded", or one of them as "embedded/layer_8"."""
    if source != EMBEDDED_SOURCE and not source.startswith(f"{EMBEDDED_SOURCE}/"):
        return None
    if model != EMBEDDED:
        raise CorrSteerError(
            f"The SAEs that ship with this tool belong to {EMBEDDED}; name SAEs for {model} with --sae."
        )
    shipped = [(folder, f"{EMBEDDED_SOURCE}/{folder.name}") for folder in _sae_folders(EMBEDDED_SAES)]
    found = [_in_folder(folder, label) for folder, label in shipped if source in (EMBEDDED_SOURCE, label)]
    return found or None


def _in_saelens_folders(source: str, model: str) -> list[Found] | None:
    """A folder that SAELens saved, or a folder of such."""
    path = Path(source)
    if path.is_dir():
        found = _sae_folders(path)
        if not found:
            raise CorrSteerError(f"The folder {source} holds no SAE: neither it nor a folder in it has a cfg.json.")
        return [_in_folder(folder, str(folder)) for folder in found]
    if path.exists():
        raise CorrSteerError(f"{source} is a file; give the SAE's folder (the one with cfg.json).")
    return None


def _on_the_hub(source: str, model: str) -> list[Found] | None:
    """ "release/id" of the SAELens registry, or "owner/repository/folder" of the hub in SAELens' format."""
    parts = source.split("/")
    if len(parts) < 2 or not all(parts):
        return None
    if parts[0] in releases():
        release, id = parts[0], "/".join(parts[1:])
    elif len(parts) > 2:
        release, id = "/".join(parts[:2]), "/".join(parts[2:])
    else:
        return None
    if release == FOLDED:
        raise CorrSteerError(
            f"The SAE {source} reads attention heads of GPT-2 with its value biases folded away, which the published model "
            f"does not have; choose SAEs of another release."
        )
    return [Found(source, None, partial(_from_hub, source, release, id))]


def _in_folder(folder: Path, label: str) -> Found:
    return Found(label, _layer_in(folder), partial(_from_folder, folder))


def _sae_folders(path: Path) -> list[Path]:
    if (path / "cfg.json").exists():
        return [path]
    return sorted(folder.parent for folder in path.glob("*/cfg.json"))


def _layer_in(folder: Path) -> int | None:
    """The block that an SAE in a folder reads at, as its description says; None where loading it will say what is wrong."""
    try:
        body = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
        about = body.get("metadata") or body  # SAELens before version 6 has it all in one
        return HookPoint.parse(about.get("hook_name") or about.get("hook_point")).layer
    except Exception:  # it can be broken in as many ways as there are to break it
        return None


def import_library() -> None:
    """Import SAELens, which takes seconds the first time; programs with several threads do it before they part.

    It imports libraries that import each other: where two threads do that at once, one meets half of a module, and what
    failed to be imported fails again every time.
    """
    import_module("sae_lens")


def _from_folder(folder: Path) -> Any:
    from sae_lens import SAE
    from safetensors import SafetensorError

    try:
        with _quiet():
            return SAE.load_from_disk(folder, device="cpu", dtype="float32")
    except SafetensorError as error:
        raise CorrSteerError(
            f"The weights of the SAE in {folder} cannot be read ({first_line(error)}); the file is damaged or cut short: "
            f"get it again."
        ) from error
    except Exception as error:  # a broken cfg.json fails in as many ways as it can be broken
        raise CorrSteerError(
            f"The SAE in {folder} could not be loaded ({_reason(error)}); give a folder that SAELens saved."
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of an error's text; the next one too where that only announces it."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first


def _from_hub(source: str, release: str, id: str) -> Any:
    from sae_lens import SAE

    try:
        with _quiet(), _shapes_from_the_file():
            return SAE.from_pretrained(release, id, device="cpu", dtype="float32")
    except (
        Exception
    ) as error:  # SAELens, the hub client and its transports raise many kinds; all mean that it cannot be loaded
        if reason := hub_reason(error):
            raise CorrSteerError(f"The SAE {source} {reason}.") from error
        raise CorrSteerError(f"SAELens could not load {source}: {first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without SAELens' advice: how to load the model (`Sae.read` does that) and a scaling it misses (we refuse that)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="norm_scaling_factor not found")
        warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from_pretrained_kwargs")
        yield


@contextmanager
def _shapes_from_the_file() -> Iterator[None]:
    """Let SAELens read the shapes of a Gemma Scope 2 SAE from its file.

    It asks the hub for the file's head even when the file is in the cache, so that such SAEs could
    not be loaded without a network.
    """
    from huggingface_hub import hf_hub_download
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from safetensors import safe_open

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        with safe_open(hf_hub_download(repo_id, filename), framework="np") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dict)

    asking = loaders.get_safetensors_tensor_shapes
    loaders.get_safetensors_tensor_shapes = shapes
    try:
        yield
    finally:
        loaders.get_safetensors_tensor_shapes = asking


Find = Callable[[str, str], "list[Found] | None"]
"""From a source and a model's name to SAEs; None where the source is not of this format."""
FORMATS: dict[str, Find] = {
    "embedded": _shipped,
    "folder": _in_saelens_folders,
    "hub": _on_the_hub,
}
"""What SAEs are read from: a source is of the first format that knows it."""
