"""Where a model computes, and in which type of number."""

from __future__ import annotations

import importlib.util
import logging
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
BLOCK = 64
"""4-bit weights that share a factor."""
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


def known_bits(asked: str) -> str:
    """What is asked for, "" for neither. Raises CorrSteerError for another word."""
    if asked and asked not in run_config.QUANTIZED:
        known = " or ".join(run_config.QUANTIZED)
        raise CorrSteerError(
            f"A model's weights cannot be kept in {asked!r}; say {known}, or unset ${QUANTIZE_VARIABLE}."
        )
    return asked


def quantization(asked: str, dtype: torch.dtype) -> Any:
    """transformers' configuration of weights in so many bits, computed with in `dtype`; None where "" is asked for.

    Of 8 bits, every prompt's numbers are rounded by themselves: LLM.int8's own way takes out of the rounding whichever
    columns are large in any prompt of a batch, so that an answer would depend on its neighbours. Of 4 bits, the values
    that weights may have are spaced as weights are (nf4); transformers takes evenly spread ones (fp4) by itself, which
    err more. Raises CorrSteerError for another word, and where the package that does it is not installed.
    """
    if not known_bits(asked):
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise CorrSteerError(
            f"Weights in {asked.removesuffix('bit')} bits need the package bitsandbytes, which is not installed; install it "
            f"with: pip install 'bitsandbytes>=0.50' (or leave out --quantize)."
        )
    from transformers import BitsAndBytesConfig

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says of every product in which type it is computed
    if asked == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def check_four_bits(name: str, net: nn.Module) -> None:
    """Keep a model with 4-bit weights from two faults of bitsandbytes on CPUs.

    On processors with bfloat16 units it computes in bfloat16 whatever was asked for, and loses gradients without a word: that
    way is switched off. And it takes the wrong factors where a row of weights is no whole number of blocks: raises
    CorrSteerError.
    """
    part: Any
    for part in net.modules():
        if not hasattr(part, "support_avx512bf16_for_cpu"):
            continue
        part.support_avx512bf16_for_cpu = False
        if part.in_features % BLOCK and computes_on(part).type == "cpu":
            raise CorrSteerError(
                f"{name} has layers of width {part.in_features}, no multiple of {BLOCK}, for which bitsandbytes computes wrong "
                f"numbers from 4-bit weights on a CPU; say --quantize 8bit."
            )


def quantized_to_go_on(recorded: str) -> str:
    """What `$CORRSTEER_QUANTIZE` asks for, else how the weights of a run were kept ("8bit", "4bit", "" for neither)."""
    return os.environ.get(QUANTIZE_VARIABLE) or next(
        (asked for asked, name in run_config.QUANTIZED.items() if name in recorded), ""
    )


def dtype_to_go_on(recorded: str) -> torch.dtype | None:
    """What a run goes on in, from what it was made in: float32 stays float32, if nothing else is asked for.

    None is what the machine does best: a run made in bfloat16 goes on in float32 where the hardware has no bfloat16. Weights
    in fewer bits were rounded from those of the run's type, and are others if rounded from another one.
    """
    dtype, *more = recorded.split(", ")
    kept = dtype == "float32" or any(name in more for name in run_config.QUANTIZED.values())
    return DTYPES.get(dtype) if kept and not os.environ.get(DTYPE_VARIABLE) else None


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
