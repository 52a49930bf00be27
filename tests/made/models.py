"""Tiny random models of the real architectures, a byte tokenizer, and random SAEs for any hook point of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import transformers

from corrsteer_core.models.hooks import HookPoint, hooked
from corrsteer_core.models.loading import Model, end_tokens, fingerprint
from corrsteer_core.saes.sae import Sae, _placed

WIDTH = 32
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2", "gpt_neox")
FAST = ("llama", "gemma2", "gpt2", "qwen3_5_text")
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_DEEPSEEK = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1,
    "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
}  # fmt: skip
_STATES = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 3, "head_dim": 16, "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}  # fmt: skip
RECURRENT = ("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next")
"""Those of MORE with layers that keep a state in place of keys and values."""
MORE: dict[str, dict] = {
    "gemma": {"head_dim": 16},
    "qwen2_moe": _EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3_moe": _EXPERTS | {"head_dim": 16},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phi": {},
    "phi3": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": {},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "smollm3": {},
    "falcon": {},
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "gpt_oss": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": None},
    "granite": {"residual_multiplier": 0.5, "logits_scaling": 2.0, "embedding_multiplier": 3.0},
    "stablelm": {},
    "qwen3_5_text": _STATES,
    "qwen3_5_moe_text": _STATES | _EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3_next": _STATES | _EXPERTS | {"shared_expert_intermediate_size": 16},
}
"""Further architectures of the table, by `model_type`, with what their tiny configurations need beside the usual."""
WINDOWED = ("mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def each(architectures: Sequence[str], kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Every architecture with every kind of hook point that it has: those with states have no heads' outputs."""
    return [(one, kind) for kind in kinds for one in architectures if kind != "attn_z" or one not in RECURRENT]


@cache
def tokenizer(template: str | None = TEMPLATE) -> transformers.PreTrainedTokenizerFast:
    """One token a byte, and two special ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|im_start|>": 0, "<|im_end|>": 1, **{letter: place for place, letter in enumerate(alphabet, 2)}}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>")
    fast.chat_template = template
    fast.padding_side = "left"
    return fast


@cache
def tiny(architecture: str, layers: int = 3, window: int | None = None) -> Model:
    """A random model of an architecture, float32, whose greedy texts vary with the prompt.

    With a `window`, some of its layers (all of Mistral's) see only so many positions back.
    """
    common = {"vocab_size": len(tokenizer()), "max_position_embeddings": 256, "eos_token_id": 1, "bos_token_id": 0}
    if architecture == "gpt2":
        config = transformers.GPT2Config(n_embd=WIDTH, n_layer=layers, n_head=4, n_positions=256, **common)
    elif architecture == "gpt_neox":
        config = transformers.GPTNeoXConfig(
            hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=64, **common
        )
    elif architecture in MORE:
        config = small_config(
            architecture, layers, **({"sliding_window": window, "use_sliding_window": True} if window else {})
        )
    else:
        name = {"gemma3_text": "Gemma3TextConfig"}.get(architecture, f"{architecture.capitalize()}Config")
        heads = {} if architecture in ("llama", "mistral", "qwen2") else {"head_dim": 16}
        if window:
            heads |= {"sliding_window": window}
        if window and architecture.startswith("qwen"):
            heads |= {"use_sliding_window": True, "max_window_layers": 1}
        if window and architecture == "gemma3_text":
            heads |= {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
        config = getattr(transformers, name)(
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            pad_token_id=1,
            **heads,
            **common,
        )
    return made_of(config, f"tiny-{architecture}")


def small_config(model_type: str, layers: int = 3, **settings: Any) -> transformers.PretrainedConfig:
    """A tiny configuration of any architecture that calls its sizes as most do."""
    usual: dict[str, Any] = {
        "vocab_size": len(tokenizer()), "max_position_embeddings": 256, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1,
        "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }  # fmt: skip
    return transformers.AutoConfig.for_model(model_type, **(usual | MORE.get(model_type, {}) | settings))


def made_of(config: transformers.PretrainedConfig, name: str) -> Model:
    """A random model of a configuration."""
    torch.manual_seed(7)
    net = transformers.AutoModelForCausalLM.from_config(config).float().eval().requires_grad_(False)
    for weight in net.parameters():  # larger than the usual start, or every prompt gets one answer
        if weight.dim() > 1:
            weight.data.normal_(std=0.25)
    return Model(name, net, tokenizer(), end_tokens(net, tokenizer()), fingerprint(net))


def random_sae(model: Model, layer: int, kind: str = "resid_post", d_sae: int = 48, seed: int = 0) -> Sae:
    """A random ReLU SAE at a hook point, about half of whose features fire."""
    from sae_lens import StandardSAE, StandardSAEConfig

    torch.manual_seed(100 * layer + seed)
    point = HookPoint(layer, kind)
    net = StandardSAE(StandardSAEConfig(d_in=model.width(point.kind), d_sae=d_sae, device="cpu", dtype="float32"))
    net.W_enc.data.normal_()
    net.W_dec.data.normal_(std=0.3)
    net.cfg.metadata.hook_name = point.name
    return _placed(net, f"random/{layer}")


def activations_at(model: Model, point: HookPoint, ids: Sequence[int]) -> torch.Tensor:
    """(positions, d) at a hook point while one text is read alone."""
    seen = []
    with torch.inference_mode(), hooked({model.site(point): lambda x: seen.append(x[0].clone())}):
        model.net(torch.tensor([list(ids)]))
    return seen[0]


def prompts(model: Model) -> list[list[int]]:
    """Prompts of mixed lengths, one of a single token."""
    texts = ["a", "the cat sat", "on a mat, and it was happy there", "why?", "one two three four"]
    return [model.tokenizer(text)["input_ids"] for text in texts]
