"""Where a model computes, and in which type of number."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from torch import nn

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import run_config

AUTO = "auto"
DEVICE_VARIABLE = "CORRSTEER_DEVICE"
DTYPE_VARIABLE = "CORRSTEER_DTYPE"
QUANTIZE_VARIABLE = "CORRSTEER_QUANTIZE"
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in run_config.DTYPES}


def computes_on(module: nn.Module) -> torch.device:
    """Where a module's work is done. Its weights may lie elsewhere until they are needed (offloading by accelerate)."""
    for part in module.modules():
        device = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device


def pick_dtype(device: torch.device) -> torch.dtype:
    """What `$CORRSTEER_DTYPE` says, else bfloat16 where the hardware multiplies it, else float32.

    Without that, bfloat16 is several times slower. Raises CorrSteerError for a type that is not one of DTYPES.
    """
    if asked := os.environ.get(DTYPE_VARIABLE):
        if asked not in DTYPES:
            raise CorrSteerError(f"${DTYPE_VARIABLE} names the type {asked!r}; say {' or '.join(DTYPES)}, or unset it.")
        return DTYPES[asked]
    native = True
    if device.type == "cpu":
        native = _cpu_multiplies_bf16()
    elif device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def quantization() -> Any:
    """transformers' configuration of what `$CORRSTEER_QUANTIZE` asks for; None if it asks for nothing.

    Raises CorrSteerError for another word, and where the package that does it is not installed.
    """
    asked = os.environ.get(QUANTIZE_VARIABLE)
    if not asked:
        return None
    if asked not in run_config.QUANTIZED:
        known = " or ".join(run_config.QUANTIZED)
        raise CorrSteerError(f"${QUANTIZE_VARIABLE} says {asked!r}; say {known}, or unset it.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise CorrSteerError(
            f"Weights in {asked.removesuffix('bit')} bits need the package bitsandbytes, which is not installed; install it "
            f"with: pip install bitsandbytes (or leave out --quantize)."
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**{f"load_in_{asked}": True})


def dtype_to_go_on(recorded: str) -> torch.dtype | None:
    """What a run goes on in, from what it was made in: float32 stays float32, if nothing else is asked for.

    None is what the machine does best: a run made in bfloat16 goes on in float32 where the hardware has no bfloat16.
    """
    return torch.float32 if recorded == "float32" and not os.environ.get(DTYPE_VARIABLE) else None


def _cpu_multiplies_bf16() -> bool:
    # PyTorch for Apple's processors comes without oneDNN, and so without its operators.
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def pick_device() -> torch.device:
    """CUDA, else Apple's MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def place(device: str | None) -> tuple[torch.device, bool]:
    """Where a model goes as asked (or as `$CORRSTEER_DEVICE` says): a device, and whether to spread it over all there are.

    "auto" spreads over the GPUs and, where they are too small, the CPU; nothing asked does that where
    there are several GPUs. Raises CorrSteerError for a device that is not there.
    """
    asked = device or os.environ.get(DEVICE_VARIABLE) or ""
    if asked in ("", AUTO):
        return pick_device(), asked == AUTO or torch.cuda.device_count() > 1
    try:
        found = torch.device(asked)
    except RuntimeError:
        raise CorrSteerError(f"There is no kind of device {asked!r}; say auto, cpu, cuda, cuda:1 or mps.") from None
    there = {
        "cpu": True,
        "cuda": (found.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if found.type not in there:
        raise CorrSteerError(f"The device {asked!r} is not one this tool runs on; say auto, cpu, cuda, cuda:1 or mps.")
    if not there[found.type]:
        raise CorrSteerError(
            f"This machine (or this PyTorch) has no device {asked!r}; leave --device out, and the best there is is taken."
        )
    return found, False
