"""Where each architecture keeps its blocks and the modules of its hook points: one entry of LAYOUTS each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Where an architecture keeps its blocks and, inside a block, the modules of each hook point."""

    blocks: str
    """Path from the model to the list of blocks."""
    mlp_out: str
    """Module whose output the MLP adds to the residual stream."""
    attn_out: str
    """Module whose output attention adds to the residual stream."""
    attn_z: str
    """Module whose input is the heads' outputs side by side."""
    final_norm: str = "model.norm"
    """Path from the model to the norm between the last block and the unembedding."""


_LLAMA = Layout("model.layers", "mlp", "self_attn.o_proj", "self_attn.o_proj")
# Gemma 2 and 3 normalize what attention and MLP return before they add it; TransformerLens, and
# with it Gemma Scope, reads hook_attn_out and hook_mlp_out after that norm.
_GEMMA = Layout("model.layers", "post_feedforward_layernorm", "post_attention_layernorm", "self_attn.o_proj")
LAYOUTS: dict[str, Layout] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gemma3": Layout(
        "model.language_model.layers",
        "post_feedforward_layernorm",
        "post_attention_layernorm",
        "self_attn.o_proj",
        "model.language_model.norm",
    ),
    "gpt2": Layout("transformer.h", "mlp", "attn.c_proj", "attn.c_proj", "transformer.ln_f"),
    "gpt_neox": Layout("gpt_neox.layers", "mlp", "attention.dense", "attention.dense", "gpt_neox.final_layer_norm"),
}
