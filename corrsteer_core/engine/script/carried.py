"""What a script carries of a set of which some row does not just add: directions, and what reads the features concerned.

One safetensors file: a place for each hook point in its metadata, which `acting.txt` reads, and the place's tensors. Of an
SAE whose features are worked out one by one, the encoder's columns of those concerned are enough; where the k largest of
all are active (TopK), the whole encoder comes along.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.operations import READING, Acting, Vectors, saes_read, waited_for
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.sets.rows import Firing, SteeringRow
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.saes.sae import Sae

FORMAT = "corrsteer-steering-operations"
KINDS = ("standard", "jumprelu", "gated", "topk")
"""SAELens' names of the SAEs that the script can read."""


def content(steering: SteeringSet, model: Model, variant: Vectors) -> bytes:
    """The file. Raises CorrSteerError where a row depends on a feature that the script could not read."""
    from safetensors.torch import save

    parts = {point: one for point, one in variant.items() if isinstance(one, Acting)}
    conditions = waited_for(variant)
    numbers = {firing: number for number, firing in enumerate(conditions)}
    _check_readable(steering, saes_read(variant))
    modules = {module: name for name, module in model.net.named_modules()}
    places: dict[str, dict[str, Any]] = {}
    tensors: dict[str, Tensor] = {}
    for point in sorted(variant.keys() | {sae.point for sae in conditions.values()}):
        firings = [firing for firing, sae in conditions.items() if sae.point == point]
        site = model.site(point)
        sae = parts[point].sae if point in parts else next((conditions[firing] for firing in firings), None)
        place, own = _place(variant.get(point), sae, firings, numbers)
        places[point.name] = {"module": modules[site.module], "side": site.side, **place}
        blank = {"vector": torch.zeros(model.width(point.kind))}
        tensors |= {f"{point.name}/{name}": _plain(tensor) for name, tensor in (blank | own).items()}
    said = {"format": FORMAT, "version": "1", "places": json.dumps(places), "steering_set": steering.to_json()}
    return save(tensors, {**said, "model": steering.model, "model_fingerprint": steering.model_fingerprint})


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu().contiguous().clone()


def _place(
    one: Tensor | Acting | None, sae: Sae | None, firings: Sequence[Firing], numbers: Mapping[Firing, int]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What is done at a hook point, and the tensors that it takes."""
    rows = one.rows if isinstance(one, Acting) else ()
    asked = {row.feature for row in rows if row.operation in READING} | {firing.feature for firing in firings}
    features = sorted(asked)
    column = {feature: place for place, feature in enumerate(features)}
    place = {
        "features": features,
        "centred": sae is not None and sae.centred,
        "k": sae.net.cfg.k if sae is not None and features and sae.net.cfg.architecture() == "topk" else 0,
        "rows": [_row(row, column, numbers) for row in rows],
        "conditions": [[numbers[firing], column[firing.feature], firing.above] for firing in firings],
    }
    tensors = {} if one is None else {"vector": one.constant if isinstance(one, Acting) else one}
    if isinstance(one, Acting):
        tensors["directions"] = one.directions
    return place, tensors | (_encoder(sae, features) if sae is not None and features else {})


def _row(row: SteeringRow, column: Mapping[int, int], numbers: Mapping[Firing, int]) -> dict[str, Any]:
    return {
        "feature": row.feature,
        "operation": row.operation,
        "coefficient": row.coefficient,
        "column": column.get(row.feature),
        "from_token": row.from_token,
        "while": None if row.while_fires is None else numbers[row.while_fires],
    }


def _encoder(sae: Sae, features: Sequence[int]) -> dict[str, Tensor]:
    """The tensors by which an SAE of one of KINDS reads some features."""
    net, kind = sae.net, sae.net.cfg.architecture()
    own: Any = slice(None) if kind == "topk" else list(features)
    found = {"W_enc": net.W_enc[:, own], "b_dec": net.b_dec * net.cfg.apply_b_dec_to_input}
    if kind == "gated":
        found |= {"W_gate": net.W_enc[:, own], "b_gate": net.b_gate[own], "b_enc": net.b_mag[own]}
        found["W_enc"] = (net.W_enc * net.r_mag.exp())[:, own]
    else:
        found["b_enc"] = net.b_enc[own]
    if kind == "topk":
        rescaled = net.cfg.rescale_acts_by_decoder_norm
        found["norms"] = net.W_dec.norm(dim=-1) if rescaled else torch.ones(sae.d_sae, device=net.device)
    else:
        found["threshold"] = net.threshold[own] if kind == "jumprelu" else torch.zeros(len(features))
    return found


def _check_readable(steering: SteeringSet, saes: Sequence[Sae]) -> None:
    """Raise CorrSteerError for a row that depends on a feature of an SAE of another kind than KINDS."""
    kinds = {sae.layer: sae.net.cfg.architecture() for sae in saes}
    for row in steering.active_rows:
        layers = {row.layer} if row.operation in READING else set()
        layers |= {row.while_fires.layer} if row.while_fires else set()
        for layer in sorted(layers):
            if kinds.get(layer, KINDS[0]) not in KINDS:
                raise CorrSteerError(
                    f"A script cannot tell how active features of layer {layer} are, as its SAE is a {kinds[layer]} one (it can for "
                    f"{', '.join(KINDS)}), but in the steering set {steering.name!r} the row for feature {row.feature} of layer "
                    f"{row.layer} depends on it ({row.does}); export it as json, or switch that row off."
                )
