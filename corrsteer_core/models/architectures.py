"""Where each architecture keeps its blocks and the modules of its hook points: one entry of LAYOUTS each.

What an entry says is held against the model itself when it is loaded (`models.hook_check`), and so is the guess for an
architecture that has no entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from corrsteer_core.base.errors import CorrSteerError


@dataclass(frozen=True)
class Layout:
    """Where an architecture keeps its blocks and, inside a block, the modules of each hook point."""

    blocks: str
    """Path from the model to the list of blocks."""
    mlp_out: str
    """Module whose output the MLP adds to the residual stream; of this and the next two, empty: no such hook point."""
    attn_out: str
    """Module whose output attention adds to the residual stream. Where blocks differ, "one|another": the one that is there."""
    attn_z: str
    """Module whose input is the heads' outputs side by side."""
    final_norm: str = "model.norm"
    """Path from the model to the norm between the last block and the unembedding."""
    llama_cpp: str = ""
    """What llama.cpp calls the architecture (`controlvector.model_hint`, which it does not check); empty: as transformers does."""


_LLAMA = Layout("model.layers", "mlp", "self_attn.o_proj", "self_attn.o_proj", llama_cpp="llama")
# Gemma 2 and 3 normalize what attention and MLP return before they add it; TransformerLens, and
# with it Gemma Scope, reads hook_attn_out and hook_mlp_out after that norm.
_GEMMA = Layout("model.layers", "post_feedforward_layernorm", "post_attention_layernorm", "self_attn.o_proj")
# OLMo 2 and 3 do as Gemma 2; they have no norm before attention and MLP, which does not matter here.
_PHI = Layout("model.layers", "mlp", "self_attn.dense", "self_attn.dense", "model.final_layernorm", "phi2")
# Granite multiplies what attention and MLP return before it adds it, so that no module's output is what is added.
_GRANITE = Layout("model.layers", "", "", "")
# Qwen 3.5: three of four blocks have a gated delta net in place of attention. The inputs of the two projections are of two
# widths and scaled by a gate, so there is no attn_z.
_QWEN_NEXT = Layout("model.layers", "mlp", "self_attn.o_proj|linear_attn.out_proj", "")
LAYOUTS: dict[str, Layout] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": replace(_LLAMA, llama_cpp="qwen2"),
    "qwen3": replace(_LLAMA, llama_cpp="qwen3"),
    "gemma2": replace(_GEMMA, llama_cpp="gemma2"),
    "gemma3_text": replace(_GEMMA, llama_cpp="gemma3"),
    "gemma3": Layout(
        "model.language_model.layers",
        "post_feedforward_layernorm",
        "post_attention_layernorm",
        "self_attn.o_proj",
        "model.language_model.norm",
        llama_cpp="gemma3",
    ),
    "gpt2": Layout("transformer.h", "mlp", "attn.c_proj", "attn.c_proj", "transformer.ln_f", llama_cpp="gpt2"),
    "gpt_neox": Layout(
        "gpt_neox.layers", "mlp", "attention.dense", "attention.dense", "gpt_neox.final_layer_norm", llama_cpp="gptneox"
    ),
    "gemma": replace(_LLAMA, llama_cpp="gemma"),
    "qwen2_moe": replace(_LLAMA, llama_cpp="qwen2moe"),
    "qwen3_moe": replace(_LLAMA, llama_cpp="qwen3moe"),
    "mixtral": _LLAMA,
    "phi": _PHI,
    "phi3": replace(_LLAMA, llama_cpp="phi3"),
    "olmo": replace(_LLAMA, llama_cpp="olmo"),
    "olmo2": replace(_GEMMA, llama_cpp="olmo2"),
    "olmo3": replace(_GEMMA, llama_cpp="olmo2"),
    "olmoe": replace(_LLAMA, llama_cpp="olmoe"),
    "smollm3": replace(_LLAMA, llama_cpp="smollm3"),
    "falcon": Layout(
        "transformer.h", "mlp", "self_attention.dense", "self_attention.dense", "transformer.ln_f", llama_cpp="falcon"
    ),
    "deepseek_v2": replace(_LLAMA, llama_cpp="deepseek2"),
    "deepseek_v3": replace(_LLAMA, llama_cpp="deepseek2"),
    "gpt_oss": replace(_LLAMA, llama_cpp="gpt-oss"),
    "granite": replace(_GRANITE, llama_cpp="granite"),
    "stablelm": replace(_LLAMA, llama_cpp="stablelm"),
    "qwen3_5_text": replace(_QWEN_NEXT, llama_cpp="qwen35"),
    "qwen3_5_moe_text": replace(_QWEN_NEXT, llama_cpp="qwen35moe"),
    "qwen3_next": replace(_QWEN_NEXT, llama_cpp="qwen3next"),
}
"""By the `model_type` of transformers' configuration."""

# What an architecture without an entry may call them; the first that is there is taken.
_BLOCKS = ("model.layers", "model.language_model.layers", "transformer.h", "gpt_neox.layers", "transformer.layers")
_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f", "norm_f")
_MLP = ("mlp", "feed_forward", "block_sparse_moe", "ffn")
_ATTENTION = tuple(
    f"{module}.{projection}"
    for module in ("self_attn", "attn", "attention", "self_attention")
    for projection in ("o_proj", "dense", "out_proj", "c_proj")
)


def is_recurrent(config: Any) -> bool:
    """Whether some layers of a model of this (text) configuration keep a state in place of keys and values."""
    return "linear_attention" in (getattr(config, "layer_types", None) or ())


def layout_of(name: str, net: Any) -> Layout:
    """Where a transformers causal model has its hook points: its entry, or the usual places for one that has none.

    Raises CorrSteerError for an architecture that has no entry and no blocks at a usual place.
    """
    kind = net.config.model_type
    if kind in LAYOUTS:
        return LAYOUTS[kind]
    blocks = _first_of(net, _BLOCKS)
    norm = _first_of(net, [f"{blocks.rpartition('.')[0]}.{norm}" for norm in _NORMS]) if blocks else ""
    if not blocks or not norm:
        raise CorrSteerError(
            f"{name} is of the architecture {kind!r}, whose blocks and final norm are at none of the usual places "
            f"({', '.join(_BLOCKS)}); hook points are known for {', '.join(sorted(LAYOUTS))}."
        )
    block = net.get_submodule(f"{blocks}.0")
    attention = _first_of(block, _ATTENTION)
    return Layout(blocks, _first_of(block, _MLP), attention, attention, norm)


def _first_of(module: Any, paths: Sequence[str]) -> str:
    """The first of some paths that leads to a submodule; empty if none does."""
    there = {name for name, _ in module.named_modules()}
    return next((path for path in paths if path in there), "")
