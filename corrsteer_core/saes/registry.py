"""SAELens' registry of published SAEs, read from the file that comes with it: no torch, no network.

The registry names releases and the SAEs in them; layer and hook point stand only in their names, so
that what is said of those here is for searching. A run takes both from the SAE's own metadata.
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError

# How the releases' names and paths spell a layer: blocks.8, layer_8 or layer8, l8r_8x.
_LAYER = re.compile(r"(?:^|[^a-z])(?:(?:blocks\.|layer_?)(\d+)(?!\d)|l(\d+)[arm]_)", re.IGNORECASE)

# The first that is found in "release id path" says the hook point.
_HOOKS = tuple(
    (re.compile(pattern, re.IGNORECASE), hook)
    for pattern, hook in (
        (r"transcoder|(?<![a-z])clt|crosscoder", "transcoder"),
        (r"embedding", "embed"),
        (r"hook_attn_out|lxa|L\d+A-", "attn_out"),
        (r"hook_z|-att\b", "attn_z"),
        (r"resid.mid", "resid_mid"),
        (r"resid.pre", "resid_pre"),
        (r"mlp.out|[-_]mlp|lxm|L\d+M-", "mlp_out"),
        (r"qwen-scope|goodfire|resid|[-_]res\b|[-_]res[-_]|lxr|L\d+R", "resid_post"),
    )
)

INPUT_DEPENDENT = ("layer_norm", "constant_norm_rescale")
"""Scalings by a statistic of the very input, so that what the decoder adds for a feature has no fixed size."""

FOLDED = "gpt2-small-hook-z-kk"
"""A release for GPT-2's heads as TransformerLens computes them; SAELens' registry lists -7.55 to 0.43 of variance explained."""

# Why no run takes an SAE, by what its hook is called.
_REFUSED_HOOKS = {
    "transcoder": "a transcoder, which reads in one place and writes in another",
    "embed": "reads the embedding, before the first block",
    "resid_mid": "reads between attention and MLP",
}


@dataclass(frozen=True)
class Registered:
    """One SAE of the registry."""

    release: str
    id: str
    layer: int | None
    """As its name says; None where the name says none."""
    hook: str
    """As its name says: resid_post, resid_pre, mlp_out, attn_z, ..., or empty."""
    l0: float | None
    """Features active per position, as its makers say."""
    neuronpedia: str | None
    """Its page there, neuronpedia.org/..., if it has one."""
    path: str
    """Its folder or file in the release's repository."""
    refused: str = ""
    """Why no run takes it, as far as the registry tells (some say only in their own files); empty where nothing speaks against it."""

    @property
    def source(self) -> str:
        """What `--sae` takes."""
        return f"{self.release}/{self.id}"


@dataclass(frozen=True)
class Release:
    """A release: SAEs of one model in one repository."""

    name: str
    model: str
    repo: str
    saes: tuple[Registered, ...]


@cache
def releases() -> dict[str, Release]:
    """Every release by name, in order of names. Raises CorrSteerError when SAELens is not there."""
    import yaml

    with _file().open(encoding="utf-8") as file:
        # The C loader is five times faster; PyYAML can be built without it.
        body = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are safe)
    return {name: _release(name, body[name]) for name in sorted(body)}


def _file() -> Path:
    spec = importlib.util.find_spec("sae_lens")  # looks for it without loading it, and torch with it
    if spec is None or spec.origin is None:
        raise CorrSteerError("The package sae-lens is not installed; run 'make setup' or 'pip install sae-lens'.")
    path = Path(spec.origin).parent / "pretrained_saes.yaml"
    if not path.exists():
        raise CorrSteerError(f"The installed sae-lens has no registry at {path}; install sae-lens 6.54 or newer.")
    return path


def _release(name: str, body: dict) -> Release:
    saes = tuple(_registered(name, one, body) for one in body["saes"])
    return Release(name, str(body["model"]), str(body["repo_id"]), saes)


def _registered(release: str, body: dict, of: dict) -> Registered:
    id, path = str(body["id"]), str(body["path"])
    layer = _LAYER.search(id) or _LAYER.search(path)
    about = f"{release} {id} {path}"
    hook = next((hook for pattern, hook in _HOOKS if pattern.search(about)), "")
    number = int(layer[1] or layer[2]) if layer else None
    refused = _REFUSED_HOOKS.get(hook) or _why_refused(release, of)
    return Registered(release, id, number, hook, body.get("l0"), body.get("neuronpedia"), path, refused)


def _why_refused(release: str, body: dict) -> str:
    """Why no run takes any SAE of a release; empty where nothing speaks against them."""
    if body.get("conversion_func") == "temporal":
        return "a temporal one, whose features depend on the tokens before"
    if (body.get("config_overrides") or {}).get("normalize_activations") in INPUT_DEPENDENT:
        return "rescales each input by its own norm"
    if release == FOLDED:
        return "reads attention heads with their value biases folded away"
    if re.search(r"qwen3\.5", str(body["model"]), re.IGNORECASE):
        return "its model has layers of linear attention, which this tool cannot read"
    return ""


def search(words: Sequence[str]) -> list[Registered]:
    """The SAEs whose release, model, id, hook or Neuronpedia page contain all of the words, case aside.

    A release's own name as a word means that release and no other.
    """
    named = [word for word in words if word in releases()]
    wanted = [word.lower() for word in words if word not in named]
    return [
        sae
        for release in releases().values()
        if not named or release.name in named
        for sae in release.saes
        if _matches(wanted, release, sae)
    ]


def _matches(words: Sequence[str], release: Release, sae: Registered) -> bool:
    text = f"{release.name} {release.model} {release.repo} {sae.id} {sae.hook} {sae.neuronpedia or ''}".lower()
    return all(word in text for word in words)


def by_release(saes: Sequence[Registered]) -> list[dict]:
    """The SAEs release by release: release, model, hook, layers, saes (how many), neuronpedia (how many have a page)."""
    rows = []
    for name in dict.fromkeys(sae.release for sae in saes):
        own = [sae for sae in saes if sae.release == name]
        rows.append(
            {
                "release": name,
                "model": releases()[name].model,
                "hook": ", ".join(sorted({sae.hook for sae in own if sae.hook})),
                "layers": ranges({sae.layer for sae in own if sae.layer is not None}),
                "saes": len(own),
                "neuronpedia": sum(sae.neuronpedia is not None for sae in own),
                "refused": _refusals(own),
            }
        )
    return rows


def _refusals(saes: Sequence[Registered]) -> str:
    """Why some of a release are refused, with how many where it is not all: "4: reads the embedding, ..."."""
    counts = Counter(sae.refused for sae in saes if sae.refused)
    return "; ".join(why if count == len(saes) else f"{count}: {why}" for why, count in counts.items())


def ranges(layers: set[int]) -> str:
    """Layers in few characters: "0-3, 8"."""
    parts: list[list[int]] = []
    for layer in sorted(layers):
        if parts and layer == parts[-1][-1] + 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
