"""Models and the SAEs that belong to them, by one name: what `fit --preset` and the form for a new run offer.

Every release and id here is one of SAELens' registry (a test holds that). One SAE a layer, at the
residual stream, of the size for which most explanations of features are published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corrsteer_core.base.errors import CorrSteerError


@dataclass(frozen=True)
class Preset:
    """A model and its SAEs."""

    name: str
    title: str
    """Plain words, for the app."""
    model: str
    """Hub id."""
    release: str
    """Of the SAELens registry."""
    ids: tuple[str, ...]
    """Of the release, one a layer, from layer 0 on."""

    def sources(self, layers: Sequence[int] | None = None) -> list[str]:
        """The SAE sources of some layers (None: all). Raises CorrSteerError for a layer that has none."""
        wanted = range(len(self.ids)) if layers is None else layers
        if missing := [layer for layer in wanted if not 0 <= layer < len(self.ids)]:
            raise CorrSteerError(
                f"The preset {self.name} has SAEs for layers 0 to {len(self.ids) - 1}, not for "
                f"{', '.join(map(str, missing))}."
            )
        return [f"{self.release}/{self.ids[layer]}" for layer in wanted]


def _preset(name: str, title: str, model: str, release: str, id: str, layers: int) -> Preset:
    return Preset(name, title, model, release, tuple(id.format(layer) for layer in range(layers)))


_GEMMA_2 = ("gemma-scope-2b-pt-res-canonical", "layer_{}/width_16k/canonical", 26)
_LLAMA = ("llama_scope_lxr_8x", "l{}r_8x", 32)
_LLAMA_TITLE = "Llama Scope (32k features a layer, trained on the base model)"

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        # Gemma Scope has no SAEs of the tuned 2B model; the paper uses the base model's.
        _preset(
            "gemma-2-2b-it", "Gemma 2 2B, tuned, with Gemma Scope (16k features a layer, trained on the base model)",
            "google/gemma-2-2b-it", *_GEMMA_2,
        ),
        _preset(
            "gemma-2-2b", "Gemma 2 2B, base, with Gemma Scope (16k features a layer)", "google/gemma-2-2b", *_GEMMA_2
        ),
        _preset(
            "llama-3.1-8b-instruct", f"Llama 3.1 8B, tuned, with {_LLAMA_TITLE}", "meta-llama/Llama-3.1-8B-Instruct",
            *_LLAMA,
        ),
        _preset("llama-3.1-8b", f"Llama 3.1 8B, base, with {_LLAMA_TITLE}", "meta-llama/Llama-3.1-8B", *_LLAMA),
        # Of the two sparsities that Gemma Scope 2 has for every layer, the one nearer to Gemma Scope's canonical SAEs.
        _preset(
            "gemma-3-270m-it", "Gemma 3 270M, tuned, with Gemma Scope 2 (16k features a layer)",
            "google/gemma-3-270m-it", "gemma-scope-2-270m-it-res-all", "layer_{}_width_16k_l0_big", 18,
        ),
        _preset(
            "gemma-3-1b-it", "Gemma 3 1B, tuned, with Gemma Scope 2 (16k features a layer)",
            "google/gemma-3-1b-it", "gemma-scope-2-1b-it-res-all", "layer_{}_width_16k_l0_big", 26,
        ),
        # Qwen Scope has two sparsities of each size; no features of theirs are explained anywhere yet.
        *(
            _preset(
                f"qwen3-{size}{'-base' if base else ''}",
                f"Qwen3 {size.upper()}, {'base' if base else 'tuned'}, with Qwen Scope ({width}k features a layer"
                f"{'' if base else ', trained on the base model'})",
                f"Qwen/Qwen3-{size.upper()}{'-Base' if base else ''}", f"qwen-scope-3-{size}-base-w{width}k-l50",
                "layer{}", layers,
            )
            for size, width, layers in (("1.7b", 32, 28), ("8b", 64, 36))
            for base in (False, True)
        ),
        _preset(
            "gpt2-small", "GPT-2 small, base, with Joseph Bloom's SAEs (25k features a layer, before each block)",
            "openai-community/gpt2", "gpt2-small-res-jb", "blocks.{}.hook_resid_pre", 12,
        ),
    )
}  # fmt: skip


def get_preset(name: str) -> Preset:
    """A preset by name. Raises CorrSteerError that names those there are."""
    if name not in PRESETS:
        raise CorrSteerError(f"There is no preset {name!r}; the presets are {', '.join(PRESETS)}.")
    return PRESETS[name]
