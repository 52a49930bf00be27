"""Sparse autoencoders: what the tool asks of them, and whether they belong to a model.

A feature is one latent, named by (layer, index). A run reads one SAE per layer. The hook point is
the SAE's own (`hook_name`), never assumed.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.saes import placement
from corrsteer_core.saes.registry import INPUT_DEPENDENT
from corrsteer_core.saes.sources import EMBEDDED_SOURCE, saes_in

log = logging.getLogger("corrsteer")
__all__ = ["EMBEDDED_SOURCE", "Sae", "check_pairing", "load_saes", "ref_of"]


@dataclass(frozen=True)
class Sae:
    """One SAE, placed at its hook point."""

    net: Any = field(repr=False)
    """A SAELens SAE in float32."""
    point: HookPoint
    source: str
    """Where it was loaded from (see `saes.sources`)."""
    fingerprint: str
    """Short hash of its weights."""
    device: torch.device
    """Where it computes."""
    lent: bool = False
    """Whether its weights lie in main memory until they are used (see `saes.placement`)."""

    @property
    def layer(self) -> int:
        return self.point.layer

    @property
    def d_sae(self) -> int:
        return self.net.cfg.d_sae

    @property
    def d_in(self) -> int:
        return self.net.cfg.d_in

    @property
    def centred(self) -> bool:
        """Whether it was trained on a model whose writing weights were centred (GPT-2 in TransformerLens).

        What is written to the residual stream then has mean 0, which the model's layer norms take away
        anyway; in the model as published the mean is still there.
        """
        kwargs = self.net.cfg.metadata.model_from_pretrained_kwargs or {}
        return bool(kwargs.get("center_writing_weights")) and self.point.kind != "attn_z"

    def read(self, activations: Tensor) -> Tensor:
        """The model's activations (n, d_in) as the SAE was trained to see them: float32, on its device, centred if so."""
        x = activations.to(self.device, torch.float32)
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def encode(self, activations: Tensor) -> Tensor:
        """Feature activations (n, d_sae), float32, of the model's activations (n, d_in)."""
        with self.at_hand() as net:
            return net.encode(self.read(activations))

    def decode(self, features: Tensor) -> Tensor:
        """The activations (n, d_in) that feature activations (n, d_sae) stand for, as the SAE reads them."""
        with self.at_hand() as net:
            return net.decode(features)

    @contextmanager
    def at_hand(self) -> Iterator[Any]:
        """The SAELens SAE with its weights on the device where it computes."""
        with placement.lent(self.net, self.device) if self.lent else nullcontext():
            yield self.net

    def directions(self, features: Sequence[int]) -> Tensor:
        """What the decoder adds per unit of each feature: decode(e_i) - decode(0), (k, d_in), in residual units."""
        units = torch.zeros(len(features) + 1, self.d_sae, device=self.device)
        units[range(len(features)), list(features)] = 1.0
        with torch.inference_mode():
            decoded = self.decode(units)
        return decoded[:-1] - decoded[-1]


def ref_of(sae: Sae) -> SaeRef:
    """What a run or a steering set remembers of an SAE."""
    return SaeRef(sae.layer, sae.source, sae.point.name, sae.fingerprint, sae.d_sae)


def load_saes(sources: Sequence[str], model: Model, layers: Sequence[int] | None = None) -> list[Sae]:
    """The SAEs of some sources for a model, one per layer, ordered by layer and placed on their layers' devices.

    For what a source is see `saes.sources`. `layers` picks some of them. Raises CorrSteerError for what cannot be loaded,
    for a layer without an SAE, and for a pairing that cannot be right.
    """
    found = [one for source in sources for one in saes_in(source, model.name)]
    where = " and ".join(sources)
    by_layer: dict[int, Sae] = {}
    left_out: list[int] = []
    for one in found:  # read, checked and placed one by one: all of them can be larger than the CPU's memory
        if layers is not None and one.layer is not None and one.layer not in layers:
            left_out.append(one.layer)
            continue
        sae = _placed(one.load(), one.label)
        if layers is not None and sae.layer not in layers:
            left_out.append(sae.layer)
            continue
        if sae.layer in by_layer:
            raise CorrSteerError(f"{where} has two SAEs for layer {sae.layer}; a run reads one per layer.")
        check_pairing(sae, model)
        by_layer[sae.layer] = _moved(sae, model, by_layer.values())
    if missing := sorted(set(layers or ()) - by_layer.keys()):
        have = ", ".join(str(layer) for layer in sorted([*by_layer, *left_out]))
        raise CorrSteerError(
            f"There is no SAE for layer {', '.join(map(str, missing))} in {where}; it has layers {have}."
        )
    loaded = [by_layer[layer] for layer in sorted(by_layer)]
    if away := sum(sae.lent for sae in loaded):
        log.warning(
            "%d of %d SAEs do not fit beside %s on %s: they stay in main memory and are copied over when they are used, "
            "which takes longer and changes no number.", away, len(loaded), model.name, model.device,
        )  # fmt: skip
    return loaded


def _moved(sae: Sae, model: Model, others: Iterable[Sae]) -> Sae:
    """The SAE on the device of its layer, or lent to it where the others that are there leave too little room."""
    device = torch.empty(0, device=model.device_of(sae.point)).device  # with its number, as weights say it
    there = sum(placement.bytes_of_sae(one.net) for one in others if one.device == device and not one.lent)
    fits = there + placement.bytes_of_sae(sae.net) <= placement.room_for_saes(model, device)
    if fits:
        sae.net.to(device)
    return replace(sae, device=device, lent=not fits)


def check_pairing(sae: Sae, model: Model) -> None:
    """Raise CorrSteerError when an SAE cannot belong to a model: width, layer, or the model it names."""
    width = model.width(sae.point.kind)
    if sae.d_in != width:
        raise CorrSteerError(
            f"The SAE {sae.source} reads {sae.d_in} numbers, but {model.name} has {width} at {sae.point.name}; "
            f"it was trained on another model ({sae.net.cfg.metadata.model_name or 'not named'})."
        )
    model.site(sae.point)  # raises when the layer is not there
    named = sae.net.cfg.metadata.model_name
    if named and not Path(model.name).exists() and _family(named) != _family(model.name):
        raise CorrSteerError(
            f"The SAE {sae.source} was trained on {named}, not on {model.name}; choose SAEs of this model or its base."
        )


def _family(name: str) -> str:
    """A model's name without owner and tuning suffix: an instruct model shares its base model's SAEs."""
    short = name.rsplit("/", maxsplit=1)[-1].lower()
    short = re.sub(r"^(meta-)", "", short)
    short = re.sub(r"(-(it|pt|instruct|chat|base|hf|small|v0\.\d))+$", "", short)
    return short


def _placed(net: Any, label: str) -> Sae:
    """An SAE at its hook point. Raises CorrSteerError for one that can be placed nowhere or has no fixed directions."""
    hook_name = net.cfg.metadata.hook_name
    if not hook_name:
        raise CorrSteerError(f"The SAE {label} does not say where it reads (no hook_name in its metadata).")
    _check_usable(net, label)
    point = HookPoint.parse(hook_name, f"The SAE {label}")
    # SAELens would take the heads one by one and lay them side by side; our hook point has them so already.
    net.turn_off_forward_pass_hook_z_reshaping()
    net.eval().requires_grad_(False)
    return Sae(net, point, label, _fingerprint(net), net.device)


def _check_usable(net: Any, label: str) -> None:
    metadata, norm, kind = net.cfg.metadata, net.cfg.normalize_activations, net.cfg.architecture()
    elsewhere = bool(metadata.hook_name_out) and metadata.hook_name_out != metadata.hook_name
    if elsewhere or "transcoder" in kind:  # some are saved without saying where they write
        raise CorrSteerError(
            f"The SAE {label} is a transcoder, which reads at {metadata.hook_name} and writes at "
            f"{metadata.hook_name_out or 'a place that it does not name'}; choose an SAE that does both in one place."
        )
    if kind == "abstopk":
        raise CorrSteerError(
            f"The SAE {label} is an AbsTopK one, whose features fire with either sign; pooling takes the largest activation "
            f"and would lose the negative ones. Choose another kind."
        )
    if kind == "temporal":
        raise CorrSteerError(
            f"The SAE {label} is a temporal one, whose features depend on the tokens before; choose another kind."
        )
    if norm in INPUT_DEPENDENT:
        raise CorrSteerError(
            f"The SAE {label} rescales each input by its own norm ({norm}), so its features have no fixed direction to "
            f"steer with; choose an SAE without that."
        )
    if norm != "none":
        raise CorrSteerError(
            f"The SAE {label} expects its input scaled ({norm}) by numbers that do not come with it; fold them into its "
            f"weights with SAELens first."
        )
    if "hook_z" in metadata.hook_name and (metadata.model_from_pretrained_kwargs or {}).get("fold_value_biases"):
        raise CorrSteerError(
            f"The SAE {label} reads attention heads of a model with its value biases folded away, which {metadata.model_name} "
            f"as it is published does not have; choose another SAE."
        )


def _fingerprint(net: Any) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(net.state_dict().items()):
        flat = weight.reshape(-1)
        digest.update(name.encode() + flat[:: max(1, flat.numel() // 4096)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
