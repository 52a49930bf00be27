"""What a steering set can be written as: one entry of FORMATS each, which also makes the files.

Loads no torch, so that the formats can be listed at once: what needs a library imports it where it is used. `exports`
makes the vectors and writes the files; docs/exports.md describes what each program does with them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from corrsteer_core.base import presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.steering_set import SteeringSet

if TYPE_CHECKING:
    from torch import Tensor

    from corrsteer_core.engine.operations import Vectors
    from corrsteer_core.models.hooks import HookPoint
    from corrsteer_core.models.loading import Model
    from corrsteer_core.models.prompts import Message

SAFETENSORS_FORMAT = "corrsteer-steering-vectors"
OPERATION = "add at generation positions"
"""What is to be done with a vector: added to the activation at its hook point, at the last prompt token and at every
generated token, nowhere else."""
SCRIPT = Path(__file__).with_name("script")
"""Where the parts of the script lie."""
HOW = {
    "adding": """\
The vectors lie in the safetensors file beside this one. Each is added to the residual stream at
generation positions only: at the last prompt token, and at every token that is generated.""",
    "acting": """\
The safetensors file beside this one holds what is added, held, capped or taken out of the residual
stream, what reads the features that this depends on, and when it is done. It is done at generation
positions only: at the last prompt token, and at every token that is generated.""",
}
"""What the script says that it does, by the part that does it."""


@dataclass(frozen=True)
class Material:
    """What files are made of."""

    steering: SteeringSet
    stem: str
    """Name of the files, without suffix."""
    model: Model
    variant: Vectors
    """What the set does at each hook point, one at least: all that a format with `operations` can be asked for."""

    @property
    def vectors(self) -> dict[HookPoint, Tensor]:
        """What is added at each hook point (d,), float32 on the CPU, with the set's scale in it."""
        from corrsteer_core.engine.operations import constant_part

        return {point: vector.detach().float().cpu() for point, vector in constant_part(self.variant).items()}

    def named(self, suffix: str) -> str:
        return self.stem + suffix


@dataclass(frozen=True)
class ExportFormat:
    """A format of steering sets."""

    name: str
    suffix: str
    label: str
    """On the app's button."""
    what: str
    """In a sentence, for the app."""
    make: Callable[[Material], dict[str, bytes]] | None
    """The files by name, the one of `suffix` first; None for the set itself as JSON, which needs no model."""
    beside: tuple[str, ...] = ()
    """Suffixes of the other files that it writes."""
    operations: bool = False
    """Whether it can hold rows that do more, or less, than add at every generation position."""


def _safetensors(steering: SteeringSet, vectors: Mapping[HookPoint, Tensor], model: Model) -> bytes:
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


def _gguf(steering: SteeringSet, vectors: Mapping[HookPoint, Tensor], model: Model) -> bytes:
    """A control vector as llama.cpp loads it: `direction.N`, (d,) float32, for the output of block N.

    llama.cpp (src/llama-adapter.cpp) keeps `direction.N` as the tensor of layer N and adds it to that
    layer's output, blocks counted from 0 as here: so N is our layer, shifted by none. It knows no
    direction for layer 0. Raises CorrSteerError for what cannot be said this way.
    """
    from gguf import GGUFWriter

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
        writer.add_string("controlvector.model_hint", model.layout.llama_cpp or model.net.config.model_type)
        writer.add_uint32("controlvector.layer_count", len(vectors))
        writer.add_string("corrsteer.steering_set", steering.to_json())
        for point, vector in vectors.items():
            writer.add_tensor(f"direction.{point.layer}", vector.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def _script(steering: SteeringSet, model: Model, tensors: str) -> str:
    """A Python script that steers with transformers alone; `tensors` names the safetensors file that it reads, beside it."""
    from corrsteer_core.base.paths import EMBEDDED
    from corrsteer_core.models.embedded import embedded_folder
    from corrsteer_core.models.prompts import text_before

    before, prefix = text_before(model, steering.style)
    part = "acting" if steering.not_plain else "adding"
    return Template((SCRIPT / "frame.txt").read_text(encoding="utf-8")).substitute(
        how=HOW[part],
        steering=(SCRIPT / f"{part}.txt").read_text(encoding="utf-8"),
        name=ascii(steering.name),
        model=ascii(presenting.named(str(embedded_folder()) if steering.model == EMBEDDED else steering.model)),
        dtype=str(model.dtype),
        tensors=ascii(tensors),
        chat=steering.style.chat,
        before=_turns(before),
        prefix=ascii(prefix),
        ends=sorted(model.end_tokens),
    )


def _turns(turns: Sequence[Message]) -> str:
    return ascii([dict(turn) for turn in turns])


def _safetensors_files(made: Material) -> dict[str, bytes]:
    return {made.named(".safetensors"): _safetensors(made.steering, made.vectors, made.model)}


def _gguf_files(made: Material) -> dict[str, bytes]:
    return {made.named(".gguf"): _gguf(made.steering, made.vectors, made.model)}


def _script_files(made: Material) -> dict[str, bytes]:
    script = {made.named(".py"): _script(made.steering, made.model, made.named(".safetensors")).encode()}
    if not made.steering.not_plain:
        return script | _safetensors_files(made)
    from corrsteer_core.engine.script import carried

    return script | {made.named(".safetensors"): carried.content(made.steering, made.model, made.variant)}


FORMATS: dict[str, ExportFormat] = {
    one.name: one
    for one in (
        ExportFormat(
            "json", ".json", "The set (JSON)", "The set itself, which this tool reads back.", None, operations=True
        ),
        ExportFormat(
            "safetensors",
            ".safetensors",
            "Vectors (safetensors)",
            "One vector per hook point, with where and how it is added.",
            _safetensors_files,
        ),
        ExportFormat(
            "python",
            ".py",
            "Python script",
            "Steers with transformers alone; reads the safetensors file beside it, so keep both in one folder.",
            _script_files,
            beside=(".safetensors",),
            operations=True,
        ),
        ExportFormat(
            "gguf",
            ".gguf",
            "Control vector (GGUF)",
            "For llama.cpp, which adds it at all positions, not only where the answer is written.",
            _gguf_files,
        ),
    )
}


def get_format(name: str) -> ExportFormat:
    """A format by name. Raises CorrSteerError for an unknown one."""
    if name not in FORMATS:
        raise CorrSteerError(f"Unknown export format {name!r}; known are {', '.join(FORMATS)}.")
    return FORMATS[name]
