"""A steering set for other programs: vectors as safetensors, a control vector for llama.cpp, a Python script.

The formats, and what each program does with them, are described in docs/exports.md. Vectors are
written with the set's global scale in them; nothing is left to multiply.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import not_written, write_all_new, write_bytes
from corrsteer_core.engine.export_formats import SUFFIXES, Format  # noqa: F401 - both are used as of this module
from corrsteer_core.engine.steering import check_model, vectors_of
from corrsteer_core.models.embedded import embedded_folder
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.loading import EMBEDDED, Model
from corrsteer_core.models.prompts import Message, text_before
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.saes.sae import Sae

SAFETENSORS_FORMAT = "corrsteer-steering-vectors"
OPERATION = "add at generation positions"
"""What is to be done with a vector: added to the activation at its hook point, at the last prompt token and at every
generated token, nowhere else."""

LLAMA_CPP_NAMES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
    "gpt_neox": "gptneox",
}
"""What llama.cpp calls the architectures that we know (`controlvector.model_hint`; it does not check it)."""


def exported(
    steering: SteeringSet, wanted: Format, stem: str, model: Model | None = None, saes: Sequence[Sae] = ()
) -> dict[str, bytes]:
    """The files of an export, by name (`stem` with the format's suffix); a script brings its vectors along.

    JSON needs neither model nor SAEs, the rest does. Raises CorrSteerError for a set of another model or
    SAE, one with nothing switched on, and one that the format cannot express.
    """
    if wanted == "json":
        return {f"{stem}.json": (steering.to_json() + "\n").encode()}
    if model is None:
        raise CorrSteerError(f"The export of {steering.name!r} as {wanted} needs the model {steering.model}; load it.")
    vectors = _vectors(steering, model, saes)
    if wanted == "gguf":
        return {f"{stem}.gguf": gguf(steering, vectors, model)}
    tensors = f"{stem}.safetensors"
    found = {tensors: safetensors(steering, vectors, model)}
    if wanted == "python":
        found = {f"{stem}.py": script(steering, model, tensors).encode(), **found}
    return found


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


def files_of(wanted: Format, out: Path) -> list[Path]:
    """Which files an export to `out` makes."""
    return [out, out.with_suffix(".safetensors")] if wanted == "python" else [out]


def safetensors(steering: SteeringSet, vectors: Mapping[HookPoint, Tensor], model: Model) -> bytes:
    """One float32 tensor (d,) per hook point, under its name; the metadata say where and how each is added."""
    from safetensors.torch import save

    places = {}
    modules = {module: name for name, module in model.net.named_modules()}
    for point in vectors:
        site = model.site(point)
        places[point.name] = {"layer": point.layer, "kind": point.kind, "module": modules[site.module]} | {
            "side": site.side
        }
    metadata = {
        "format": SAFETENSORS_FORMAT,
        "version": "1",
        "operation": OPERATION,
        "model": steering.model,
        "model_fingerprint": steering.model_fingerprint,
        "hook_points": json.dumps(places),
        "scale": repr(float(steering.scale)),
        "scale_applied": "true",
        "features": json.dumps([[row.layer, row.feature, row.coefficient] for row in steering.active_rows]),
        "steering_set": steering.to_json(),
    }
    return save({point.name: vector.contiguous() for point, vector in vectors.items()}, metadata)


def gguf(steering: SteeringSet, vectors: Mapping[HookPoint, Tensor], model: Model) -> bytes:
    """A control vector as llama.cpp loads it: `direction.N`, (d,) float32, for the output of block N.

    llama.cpp (src/llama-adapter.cpp) keeps `direction.N` as the tensor of layer N and adds it to that
    layer's output, blocks counted from 0 as here: so N is our layer, shifted by none. It knows no
    direction for layer 0. Raises CorrSteerError for what cannot be said this way.
    """
    from gguf import GGUFWriter

    architecture = LLAMA_CPP_NAMES[model.net.config.model_type]
    for point in vectors:
        if point.kind != "resid_post":
            raise CorrSteerError(
                f"A control vector of llama.cpp acts on the output of blocks (resid_post), but the set "
                f"{steering.name!r} adds at {point.name}; export it as safetensors or python."
            )
        if point.layer == 0:
            raise CorrSteerError(
                f"llama.cpp adds no control vector to the output of block 0, where the set {steering.name!r} adds one; "
                f"switch the features of layer 0 off, or export it as safetensors or python."
            )
    with tempfile.TemporaryDirectory() as folder:  # the writer wants a file
        path = Path(folder) / "vectors.gguf"
        writer = GGUFWriter(path, "controlvector")
        writer.add_name(steering.name)
        writer.add_description(
            "Steering vectors, direction.N for the output of block N (from 0). llama.cpp adds them at all "
            "positions of the prompt; they were fitted at generation positions only."
        )
        writer.add_string("controlvector.model_hint", architecture)
        writer.add_uint32("controlvector.layer_count", len(vectors))
        writer.add_string("corrsteer.steering_set", steering.to_json())
        for point, vector in vectors.items():
            writer.add_tensor(f"direction.{point.layer}", vector.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def script(steering: SteeringSet, model: Model, tensors: str) -> str:
    """A Python script that steers with transformers alone; `tensors` names the safetensors file beside it."""
    before, prefix = text_before(model, steering.style)
    return Template(Path(__file__).with_name("snippet.txt").read_text(encoding="utf-8")).substitute(
        name=ascii(steering.name),
        model=ascii(str(embedded_folder()) if steering.model == EMBEDDED else steering.model),
        dtype=str(model.dtype),
        tensors=ascii(tensors),
        chat=steering.style.chat,
        before=_turns(before),
        prefix=ascii(prefix),
        ends=sorted(model.end_tokens),
    )


def _turns(turns: Sequence[Message]) -> str:
    return ascii([dict(turn) for turn in turns])


def _vectors(steering: SteeringSet, model: Model, saes: Sequence[Sae]) -> dict[HookPoint, Tensor]:
    """The set's vectors on the CPU, all finite, one at least."""
    check_model(steering, model)
    vectors = {point: vector.detach().float().cpu() for point, vector in vectors_of(steering, saes).items()}
    if not vectors:
        raise CorrSteerError(
            f"No feature of the set {steering.name!r} is switched on, so there is no vector to export; switch one on."
        )
    for point in vectors:
        model.site(point)
    return vectors
