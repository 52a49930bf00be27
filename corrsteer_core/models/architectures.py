"""Where each architecture keeps its blocks and the modules of its hook points: one entry of LAYOUTS each."""

from __future__ import annotations

from dataclasses import dataclass, replace


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
    llama_cpp: str = ""
    """What llama.cpp calls the architecture (`controlvector.model_hint`, which it does not check); empty: as transformers does."""


_LLAMA = Layout("model.layers", "mlp", "self_attn.o_proj", "self_attn.o_proj", llama_cpp="llama")
# Gemma 2 and 3 normalize what attention and MLP return before they add it; TransformerLens, and
# with it Gemma Scope, reads hook_attn_out and hook_mlp_out after that norm.
_GEMMA = Layout("model.layers", "post_feedforward_layernorm", "post_attention_layernorm", "self_attn.o_proj")
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
}
"""By the `model_type` of transformers' configuration."""
