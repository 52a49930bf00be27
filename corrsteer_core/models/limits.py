"""How much is computed at once: as much as the device's memory holds, up to where more brings nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import psutil
import torch

from corrsteer_core.base.errors import CorrSteerError, out_of_memory
from corrsteer_core.models.conditions import Conditions, Limits
from corrsteer_core.models.loading import Model, head_width

T = TypeVar("T")

MEMORY_SHARE = 0.25  # of the memory beside the model, for keys and values, and as much for logits


LIMITS = {"cpu": Limits(64, 256, 4096), "mps": Limits(64, 256, 1 << 16)}
ELSEWHERE = Limits(256, 1024, 1 << 20)
FEWEST = 4  # prompts read together, however many variants each has


def prompts_that_fit(model: Model, prompts: Sequence[Sequence[int]], max_new_tokens: int, variants: int = 1) -> int:
    """Prompts per batch: as many as memory holds, up to where more bring nothing."""
    longest = max(len(prompt) for prompt in prompts)
    return max(1, prompts_within(limits_of(model), longest + max_new_tokens, variants))


def prompts_within(limits: Limits, tokens: int, variants: int = 1) -> int:
    """Prompts of at most so many tokens, with their answers, that limits hold; 0 where they do not hold even one."""
    return min(limits.prompts, limits.tokens // tokens, max(FEWEST, limits.rows // variants))


def variants_that_fit(model: Model, prompts: int, length: int, max_new_tokens: int) -> int:
    """Variants decoded together, of so many prompts of at most `length` tokens: all see the keys of all steps.

    In a model with states each is a row of its own, with the prompt's keys.
    """
    limits = limits_of(model)
    if model.recurrent:
        return max(1, min(limits.rows, limits.tokens // (length + max_new_tokens)) // prompts)
    return max(1, min(limits.rows // prompts, (limits.tokens // prompts - length) // max_new_tokens))


def rows_that_fit(model: Model, length: int) -> int:
    """Rows of at most `length` tokens, prompt and answer, whose keys and values are held at once."""
    limits = limits_of(model)
    return max(1, min(limits.rows, limits.tokens // max(1, length)))


def limits_of(model: Model) -> Limits:
    """Those of the run that the model works for, if it is held to them (see `held_to`), else this device's."""
    return model.conditions.limits if model.conditions else _limits_here(model)


def conditions_of(model: Model) -> Conditions:
    """Under which the model computes now."""
    return model.conditions or Conditions(model.device.type, torch.get_num_threads(), _limits_here(model))


def held_to(model: Model, conditions: Conditions | None) -> Model:
    """The model, held to the conditions that a run was begun under; on another kind of device they mean nothing."""
    same = conditions is not None and conditions.device == model.device.type
    return replace(model, conditions=conditions if same else None)


def _limits_here(model: Model) -> Limits:
    """The device's limits, or less where a share of the memory beside the model holds less.

    Not of what is free at the moment: in bfloat16 a number depends a little on what is computed beside it, so the same
    work is to be cut in the same way whatever else goes on. Where memory does not hold a batch, it is halved.
    """
    left = memory_of(model.device) - weights_of(model)
    return limits_with(left, bytes_per_token(model.text_config, model.dtype), model.text_config, model.device.type)


def limits_with(left: float, token: int, config: Any, kind: str) -> Limits:
    """The limits of a kind of device with so many bytes `left` beside the weights; `token` is what its keys take."""
    row = config.vocab_size * 2 * 4 + bytes_per_row(config)  # sums over logits are float32
    share = MEMORY_SHARE * max(0, left)
    most = LIMITS.get(kind, ELSEWHERE)
    return Limits(most.prompts, min(most.rows, int(share / row)), min(most.tokens, int(share / token)))


def bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Of keys and values in all layers that have any; growing the cache holds it twice for a moment."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = head_width(config)
    layers = config.num_hidden_layers - _with_states(config)
    return 2 * 2 * layers * heads * width * dtype.itemsize


def bytes_per_row(config: Any) -> int:
    """Of the states that layers without keys keep of a text, however long; 0 where all layers have keys.

    Counted is the float32 state of each head (keys by values): the convolution's few inputs are a hundredth of it. It is
    held twice, by the prompt and by what goes on from there. Where a configuration does not say its sizes as Qwen's do,
    they are taken to be those of attention.
    """
    heads = getattr(config, "linear_num_value_heads", None) or config.num_attention_heads
    key, value = (getattr(config, f"linear_{kind}_head_dim", None) or head_width(config) for kind in ("key", "value"))
    return 2 * 4 * _with_states(config) * heads * key * value


def _with_states(config: Any) -> int:
    """Layers that keep a state in place of keys and values."""
    return sum(kind == "linear_attention" for kind in getattr(config, "layer_types", None) or ())


def memory_of(device: torch.device) -> int:
    """Bytes that a device has in all."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total


def weights_of(model: Model, device: torch.device | None = None) -> int:
    """Bytes of the model's weights on a device (its own, if none is named); those fetched when needed take none."""
    there = [weight for weight in model.net.parameters() if weight.device == (device or model.device)]
    # bitsandbytes keeps what a block of 4-bit weights is multiplied by beside them.
    scales = [weight.quant_state.absmax for weight in there if getattr(weight, "quant_state", None)]
    return bytes_of([*there, *scales])


def bytes_of(weights: Iterable[torch.Tensor]) -> int:
    """What tensors take."""
    return sum(weight.numel() * weight.element_size() for weight in weights)


def in_halves(
    do: Callable[[list[int]], T], batch: list[int], model: Model, prompts: Sequence[Sequence[int]], tokens: int
) -> Iterator[T]:
    """What `do` makes of a batch (places of prompts), part by part: in halves where memory does not hold it.

    `tokens` is the longest answer's length. Raises CorrSteerError for a prompt that does not fit even alone.
    """
    try:
        yield do(batch)
        return
    except Exception as error:
        if not out_of_memory(error):
            raise
        if len(batch) == 1:
            raise CorrSteerError(
                f"A prompt of {len(prompts[batch[0]])} tokens with answers of {tokens} does not fit in the memory of "
                f"{model.device}, even alone; shorten it, ask for fewer tokens, or name another --device."
            ) from error
        logging.getLogger(__name__).warning("out of memory with %d prompts; going on with half", len(batch))
    _let_go(model.device)  # here, where no traceback holds the failed batch's tensors any more
    half = len(batch) // 2
    for part in (batch[:half], batch[half:]):
        yield from in_halves(do, part, model, prompts, tokens)


def _let_go(device: torch.device) -> None:
    """Give back what PyTorch keeps on a device and does not use."""
    if device.type == "mps":
        torch.mps.empty_cache()
    else:
        torch.cuda.empty_cache()
