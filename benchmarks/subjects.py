"""What is measured: a model with SAEs, and prompts of a one-token and of a 24-token task."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from corrsteer_core.engine.generation import UNSTEERED, Vectors
from corrsteer_core.models.devices import pick_device, pick_dtype
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.loading import Model, fingerprint, load_model
from corrsteer_core.models.prompts import render, resolve_style
from corrsteer_core.saes.sae import Sae, _placed, load_saes
from corrsteer_core.tasks import get_task, load_items

SHORT, LONG = "sentiment", "refusal"
WIDE = 16_384
CANDIDATE_LAYERS = 6
FEATURES_EACH = 8
SCALES = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Subject:
    """A model, its SAEs, and prompts: `short` ones answered with 1 token, `long` ones with `steps`."""

    name: str
    model: Model
    saes: list[Sae]
    short: list[list[int]]
    long: list[list[int]]
    steps: int = 24

    def task(self, new: int, count: int) -> list[list[int]]:
        """So many prompts of the task answered with `new` tokens, again from the first where there are fewer."""
        of_task = self.short if new == 1 else self.long
        return [of_task[place % len(of_task)] for place in range(count)]


def embedded() -> Subject:
    """The embedded model with its SAEs on the built-in tasks."""
    model = load_model()
    prompts = {}
    for name in (SHORT, LONG):
        task = get_task(name)
        style = resolve_style(model, chat=None, task_chat=task.chat)
        items = load_items(task)
        prompts[name] = [render(model, item.prompt, style) for item in random.Random(0).sample(items, len(items))]
    return Subject("SmolLM2-135M-Instruct", model, load_saes(["embedded"], model), prompts[SHORT], prompts[LONG])


def tiny() -> Subject:
    """A random model so small that every row is done in seconds: for seeing that the benchmark runs."""
    from transformers import LlamaConfig

    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    model = _random(LlamaConfig(vocab_size=256, num_hidden_layers=6, max_position_embeddings=512, **shape))
    return _with_prompts("a tiny random Llama", model, random_saes(model, range(6), 64), steps=4)


def gemma2_shape() -> Subject:
    """A random model of Gemma 2 2B's shape with 26 SAEs of 16,384 features."""
    from transformers import Gemma2Config

    shape: dict[str, Any] = {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    }
    model = _random(Gemma2Config(vocab_size=256_000, num_hidden_layers=26, head_dim=256, **shape))
    return _with_prompts("random weights in Gemma 2 2B's shape", model, random_saes(model, range(26), WIDE))


def _random(config) -> Model:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    device = pick_device()
    with torch.device(device):
        net = AutoModelForCausalLM.from_config(config, dtype=pick_dtype(device)).eval().requires_grad_(False)
    return Model("random", net, None, frozenset({0}), fingerprint(net))


def _with_prompts(name: str, model: Model, saes: list[Sae], steps: int = 24) -> Subject:
    draw = random.Random(0)

    def prompts(common: int, low: int, high: int) -> list[list[int]]:
        opening = [draw.randrange(2, 250) for _ in range(common)]
        lengths = [draw.randint(low, high) for _ in range(256)]
        return [opening + [draw.randrange(2, 250) for _ in range(length - common)] for length in lengths]

    return Subject(name, model, saes, prompts(12, 21, 48), prompts(24, 38, 58), steps)


def random_saes(model: Model, layers: Iterable[int], width: int) -> list[Sae]:
    """SAEs of random weights, of whose features about one in forty fires; they share their decoder, which is not used."""
    from sae_lens import StandardSAE, StandardSAEConfig

    torch.manual_seed(0)
    made = []
    decoder = None
    for layer in layers:
        point = HookPoint(layer)
        device = model.device_of(point)
        net = StandardSAE(StandardSAEConfig(d_in=model.d_model, d_sae=width, device=str(device), dtype="float32"))
        decoder = net.W_dec if decoder is None else decoder
        net.W_dec = decoder
        net.W_enc.data.normal_(std=model.d_model**-0.5)
        net.b_enc.data.fill_(-2.0)
        net.cfg.metadata.hook_name = point.name
        made.append(_placed(net, f"random/{layer}"))
    return made


def wide(subject: Subject, width: int = WIDE) -> Subject:
    """The same with random SAEs on every layer."""
    return replace(subject, saes=random_saes(subject.model, range(subject.model.n_layers), width))


def steered_everywhere(model: Model) -> Vectors:
    """One vector at every layer, small enough to leave the text a text."""
    made = torch.Generator().manual_seed(0)
    return {HookPoint(layer): 0.02 * torch.randn(model.d_model, generator=made) for layer in range(model.n_layers)}


def scales(subject: Subject) -> list[Vectors]:
    """The unsteered variant and one feature at 8 scales."""
    sae = subject.saes[0]
    direction = sae.directions([0])[0]
    return [UNSTEERED, *({sae.point: direction * scale} for scale in range(1, 9))]


def candidates(subject: Subject) -> list[Vectors]:
    """The unsteered variant and V's candidates: 6 layers, 8 features, 4 scales."""
    made: list[Vectors] = [UNSTEERED]
    for sae in subject.saes[:CANDIDATE_LAYERS]:
        for direction in sae.directions(range(FEATURES_EACH)):
            made += [{sae.point: direction * scale} for scale in SCALES]
    return made
