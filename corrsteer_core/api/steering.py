"""A steering set that can be applied to a model, of this tool or of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import steering_set
from corrsteer_core.runs.steering_set import SteeringSet

if TYPE_CHECKING:
    from torch import Tensor

    from corrsteer_core.models.loading import Model
    from corrsteer_core.saes.sae import Sae


@dataclass(frozen=True)
class Steering(SteeringSet):
    """Features with coefficients, tied to one model and its SAEs: what is done to the model at generation positions.

    A value: `2 * v`, `-v`, `v + w` and `v - w` are sets too, of the same model and SAEs, and so is `v.with_row(row)`, with
    another row, which may also clamp, cap or ablate its feature (see `runs.sets.rows`). Coefficients are in units of
    the features' activations; a vector is in the units of the model's own residual stream.
    """

    @classmethod
    def of(cls, steering: SteeringSet) -> Self:
        """The same set, with what this class can do."""
        return cls(**{one.name: getattr(steering, one.name) for one in fields(SteeringSet)})

    def table(self) -> pd.DataFrame:
        """One row per feature: layer, feature, coefficient, enabled, note, does (in words), and added.

        `added` is scale x coefficient, 0 if off; nan for a row that does not add.
        """
        rows = pd.DataFrame(
            [(row.layer, row.feature, row.coefficient, row.enabled, row.note, row.does) for row in self.rows],
            columns=["layer", "feature", "coefficient", "enabled", "note", "does"],
        )
        added = self.scale * rows["coefficient"] * rows["enabled"].astype(float)
        return rows.assign(added=added.where([row.operation == "add" or not row.enabled for row in self.rows]))

    def save(self, path: str | Path) -> None:
        """Write the set as JSON, which `load_set` reads. Raises CorrSteerError if the file cannot be written."""
        steering_set.save_set(self, Path(path))

    def vectors(self, model: Any, tokenizer: Any = None) -> dict[str, Tensor]:
        """What the set adds, by hook point ("blocks.8.hook_resid_post"): (d,) float32 each, scale included.

        Loads the set's SAEs. Raises CorrSteerError for another model or SAE than the set's, and for a set that does not
        just add vectors at every generation position.
        """
        from corrsteer_core.engine.steering import vectors_of

        found = _model(self, model, tokenizer)
        return {point.name: vector for point, vector in vectors_of(self, _saes(self, found)).items()}

    @contextmanager
    def applied(self, model: Any, tokenizer: Any = None) -> Iterator[None]:
        """Steer a model while the `with` block is open, and never after it, whatever is raised in it.

        `model` is one of `load_model`, or a causal model of transformers that you loaded, then with its `tokenizer`.
        transformers' own `generate` is then steered at generation positions only: the last prompt token, then every
        generated token, in each row of a left-padded batch and in each beam or sample.
        Raises CorrSteerError for another model than the set was made for, for other SAEs, and inside the block for what
        cannot be steered exactly: padding on the right, no cache of keys and values, an assistant model; where a row acts
        from a generated token on, also a cache from before.
        """
        from corrsteer_core.engine.steering import steered, variant_of

        found = _model(self, model, tokenizer)
        with steered(found, variant_of(self, _saes(self, found))):
            yield


def load_set(path: str | Path) -> Steering:
    """A steering set from its JSON file. Raises CorrSteerError if it is not there or not a whole set."""
    return Steering.of(steering_set.load_set(Path(path)))


def _saes(steering: SteeringSet, model: Model) -> list[Sae]:
    from corrsteer_core.saes.named_saes import saes_of

    # SAEs are recognised by the model's name; a checked model goes by the name that the set knows it by.
    return list(saes_of(steering.active_saes, replace(model, name=steering.model)))


def _model(steering: SteeringSet, model: Any, tokenizer: Any) -> Model:
    """The model as the tool knows it, checked to be the set's."""
    from corrsteer_core.engine.steering import check_model
    from corrsteer_core.models.loading import Model

    found = model if isinstance(model, Model) else _own(model, tokenizer)
    check_model(steering, found)
    return found


def _own(net: Any, tokenizer: Any) -> Model:
    """A transformers model that the user loaded. Raises CorrSteerError for what is none, or comes without tokenizer."""
    from transformers import PreTrainedModel

    from corrsteer_core.models.hook_check import checked
    from corrsteer_core.models.loading import Model, end_tokens, fingerprint

    if not isinstance(net, PreTrainedModel):
        raise CorrSteerError(
            f"A set cannot be applied to a {type(net).__name__}; give what load_model returns, or a transformers model "
            f"and its tokenizer."
        )
    if tokenizer is None:
        raise CorrSteerError(f"Of a {type(net).__name__} the tokenizer is needed too; write applied(model, tokenizer).")
    name = net.config.name_or_path or type(net).__name__
    return Model(name, net, tokenizer, end_tokens(net, tokenizer), fingerprint(net), checked(name, net))
