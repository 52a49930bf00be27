"""What a study will take, before it runs: memory, what of it fits, answers to generate, and time from a short probe.

A study is what `study` does: collecting, what P and V try, matched controls, and the measurement of every set.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.generation import UNSTEERED, Vectors
from corrsteer_core.method.run_setup import Setup
from corrsteer_core.models.devices import BLOCK
from corrsteer_core.models.limits import (
    bytes_per_row,
    bytes_per_token,
    limits_with,
    memory_of,
    prompts_that_fit,
    prompts_within,
    weights_of,
)
from corrsteer_core.models.loading import Model
from corrsteer_core.models.prompts import render
from corrsteer_core.runs.against import CONTROLS, MATCHED
from corrsteer_core.runs.strategies import PER_LAYER, SCALES, STRATEGIES
from corrsteer_core.saes.placement import bytes_of_sae, room_beside
from corrsteer_core.saes.sae import Sae

GIB = 2**30
PROBED = 8
"""Prompts of the probe."""
PROBED_VARIANTS = 16
BYTES_A_WEIGHT = {"8bit": 1.0, "4bit": 0.5 + 4 / BLOCK}
"""Of 4 bits, a block of weights shares a factor of 4 bytes."""
COLLECTING, TRYING, MATCHING, MEASURING = "collecting", "trying features", "matched controls", "measuring sets"


@dataclass(frozen=True)
class Memory:
    """Bytes on the device that computes."""

    weights: int
    saes: int
    token: int
    """Keys and values of one token."""
    row: int
    """States of one text, where some layers keep those in place of keys and values."""
    device: int
    """What there is in all."""
    lent: int = 0
    """Of SAEs that stay in main memory until they are used."""

    @property
    def left(self) -> int:
        """For keys, values and logits."""
        return self.device - self.weights - self.saes

    def table(self) -> dict[str, Any]:
        """In GiB, ready to be printed."""
        return {
            "weights_gib": self.weights / GIB,
            "saes_gib": self.saes / GIB,
            **({"saes_in_main_memory_gib": self.lent / GIB} if self.lent else {}),
            "keys_and_values_mib_per_1000_tokens": 1000 * self.token / 2**20,
            **({"states_mib_per_text": self.row / 2**20} if self.row else {}),
            "device_gib": self.device / GIB,
            "left_gib": self.left / GIB,
            "fits": self.left > 0,
        }


def memory_here(model: Model, saes: Sequence[Sae]) -> Memory:
    """What is loaded takes, on the device that it lies on."""
    there, lent = (sum(bytes_of_sae(sae.net) for sae in saes if sae.lent is away) for away in (False, True))
    token = bytes_per_token(model.text_config, model.dtype)
    row = bytes_per_row(model.text_config)
    return Memory(weights_of(model), there, token, row, memory_of(model.device), lent)


def memory_of_config(
    config: Any, dtype: torch.dtype, layers: int, features: int, device: int, quantized: str = ""
) -> Memory:
    """What a model of a transformers configuration would take with `layers` float32 SAEs of `features` each; nothing is loaded.

    `quantized` (a key of QUANTIZED) keeps the weights of its blocks in fewer bits.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    numbers = sum(weight.numel() for weight in net.parameters())
    packed = _numbers_in_products(net) if quantized else 0
    weights = (numbers - packed) * dtype.itemsize + int(packed * BYTES_A_WEIGHT.get(quantized, 0))
    sae = 4 * (features * (2 * text.hidden_size + 1) + text.hidden_size)
    there = min(layers, room_beside(weights, device) // sae)
    token, row = bytes_per_token(text, dtype), bytes_per_row(text)
    return Memory(weights, there * sae, token, row, device, (layers - there) * sae)


def _numbers_in_products(net: Any) -> int:
    """Weights that bitsandbytes packs: those of every linear layer but the head."""
    head = net.get_output_embeddings()
    linear = [part for part in net.modules() if isinstance(part, nn.Linear | Conv1D) and part is not head]
    return sum(part.weight.numel() for part in linear)


def prompts_at_once(memory: Memory, config: Any, kind: str, length: int, new: int) -> int:
    """Prompts of so many tokens that a batch holds, answered with `new`."""
    limits = limits_with(memory.left, memory.token, config.get_text_config(), kind)
    return prompts_within(limits, length + new)


def answers_of(splits: Mapping[str, int], layers: int) -> dict[str, int]:
    """Answers that each part of a study generates, from samples per split."""
    samples, validation, test = sum(splits.values()), splits.get("validation", 0), splits.get("test", 0)
    tried = {"P": layers, "V": layers * PER_LAYER * len(SCALES)}
    by_steering = [name for name, one in STRATEGIES.items() if one.by_steering]
    trying = validation * sum(tried.get(name, 0) + 1 for name in by_steering)
    # The unsteered answers are shared; every set has its random sets, its sign turned round, and matched ones.
    variants = 1 + len(STRATEGIES) * (2 + CONTROLS) + len(by_steering) * MATCHED
    return {COLLECTING: samples, TRYING: trying, MATCHING: MATCHED * trying, MEASURING: test * variants}


@dataclass(frozen=True)
class Pace:
    """Seconds per answer on this machine."""

    collecting: float
    steered: float

    def seconds(self, part: str) -> float:
        """Of one answer of a part of the study."""
        return self.collecting if part == COLLECTING else self.steered


def probed(setup: Setup) -> Pace:
    """Timed on a few of the task's prompts: with features read, and under several variants at once."""
    every = [render(setup.model, item.prompt, setup.config.style) for item in setup.items]
    some = sorted(every, key=len)[:: max(1, len(every) // PROBED)][:PROBED]
    push = [{sae.point: 0.1 * sae.directions([0])[0] for sae in setup.saes} for _ in range(PROBED_VARIANTS)]
    reading = _timed(setup, some, [UNSTEERED], setup.saes) / len(some)
    steering = _timed(setup, some, push, []) / (len(some) * len(push))
    return Pace(reading, steering)


def _timed(setup: Setup, prompts: Sequence[Sequence[int]], variants: Sequence[Vectors], saes: Sequence[Sae]) -> float:
    """Seconds of a second time; the first warms up."""
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        for _batch in answers(
            setup.model,
            prompts,
            max_new_tokens=setup.config.max_new_tokens,
            variants=variants,
            saes=saes,
            pooling=setup.config.pooling,
        ):
            pass
        seconds = time.perf_counter() - started
    return seconds


def _column(workers: int) -> str:
    return "hours" if workers == 1 else f"hours_with_{workers}_workers"


def forecast(setup: Setup, workers: Sequence[int]) -> dict[str, Any]:
    """Memory, batch, answers and hours of a study on this machine; ready for JSON.

    The hours of several workers are those of one, shared out: no pool does better.
    """
    splits = {split: sum(item.split == split for item in setup.items) for split in ("train", "validation", "test")}
    prompts = [render(setup.model, item.prompt, setup.config.style) for item in setup.items]
    pace = probed(setup)
    counts = answers_of(splits, len(setup.saes))
    rows: list[dict[str, Any]] = []
    for part, count in counts.items():
        hours = count * pace.seconds(part) / 3600
        rows.append({"part": part, "answers": count} | {_column(each): hours / each for each in workers})
    total = {name: sum(row[name] for row in rows) for name in rows[0] if name != "part"}
    return {
        "model": setup.model.name,
        "device": str(setup.model.device),
        "dtype": setup.model.arithmetic,
        **memory_here(setup.model, setup.saes).table(),
        "prompts_at_once": prompts_that_fit(setup.model, prompts, setup.config.max_new_tokens),
        "seconds_per_answer": pace.collecting,
        "seconds_per_steered_answer": pace.steered,
        "study": [*rows, {"part": "all", **total}],
    }
