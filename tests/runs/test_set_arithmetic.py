"""Steering sets as vectors: scaling, turning round, adding; each identity holds of what the model is given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.runs.steering_set import SteeringRow
from tests.made.models import random_sae, tiny
from tests.made.sets import empty_set


@pytest.fixture(scope="module")
def made():
    model = tiny("llama")
    saes = [random_sae(model, 0), random_sae(model, 2)]
    v = empty_set(model, saes, rows=(SteeringRow(0, 3, 2.0), SteeringRow(2, 5, -1.5, note="r .2")), scale=2.0, name="v")
    others = (SteeringRow(2, 5, 4.0), SteeringRow(2, 7, 0.5), SteeringRow(0, 9, 9.0, enabled=False))
    return saes, v, empty_set(model, saes, rows=others, scale=-0.5, name="w")


def same(one, other):
    for point in one.keys() | other.keys():
        zero = torch.zeros(32)
        torch.testing.assert_close(one.get(point, zero), other.get(point, zero), atol=1e-6, rtol=1e-5)


def plus(one, other, a=1.0, b=1.0):
    """a times some vectors plus b times others, by hook point."""
    zero = torch.zeros(32)
    return {point: a * one.get(point, zero) + b * other.get(point, zero) for point in one.keys() | other.keys()}


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 3), (0.5, -1.5), (0, 2), (-1, 0)])
def test_a_linear_combination_of_sets_adds_that_of_their_vectors(made, a, b):
    saes, v, w = made
    one, other = vectors_of(v, saes), vectors_of(w, saes)
    same(vectors_of(a * v + w * b, saes), plus(one, other, a, b))
    same(vectors_of(a * v - w * b, saes), plus(one, other, a, -b))
    same(vectors_of(a * (v + w), saes), plus(one, other, a, a))


def test_a_set_less_itself_adds_nothing(made):
    saes, v, w = made
    assert (v - v).rows == ()
    assert vectors_of(v - v, saes) == {}
    assert vectors_of(0.1 * v + -0.1 * v, saes) == {}
    same(vectors_of(v + w - w, saes), vectors_of(v, saes))


def test_rows_of_one_feature_become_one_and_scales_are_multiplied_in(made):
    _, v, w = made
    total = v + w
    found = {(row.layer, row.feature): (row.coefficient, row.enabled, row.note) for row in total.rows}
    assert found == {(0, 3): (4.0, True, ""), (2, 5): (-5.0, True, "r .2"), (2, 7): (-0.25, True, "")}
    assert (total.scale, total.name, (v - w).name) == (1.0, "v + w", "v - w")
    gone = v + replace(w, scale=0.75)  # 2 * -1.5 + .75 * 4
    assert (2, 5) not in {(row.layer, row.feature) for row in gone.rows}


def test_numbers_of_numpy_are_numbers_and_texts_are_not(made):
    _, v, _ = made
    for factor in (np.float64(2), np.float32(2), np.int64(2)):
        assert factor * v == v * factor == v.scaled(2.0)
        assert type((factor * v).scale) is float
    for wrong in ("2", None, [2], 2j):
        with pytest.raises(TypeError):
            v * wrong
    with pytest.raises(TypeError):
        v + 1
    with pytest.raises(CorrSteerError, match="scale nan"):
        v * float("nan")


def test_a_sum_belongs_to_a_run_only_if_both_do(made):
    _, v, w = made
    own = {"run": "sentiment-1", "task": "sentiment"}
    both = replace(v, **own) + replace(w, **own)
    assert (both.run, both.task) == ("sentiment-1", "sentiment")
    mixed = replace(v, **own) + replace(w, run="sentiment-2", task="sentiment")
    assert (mixed.run, mixed.task) == ("", "")


def test_sets_of_other_layers_are_added_and_of_other_models_or_saes_refused(made):
    saes, v, w = made
    model = tiny("llama")
    third = empty_set(model, [random_sae(model, 1)], rows=(SteeringRow(1, 4, 1.0),), name="third")
    together = v + third
    assert [sae.layer for sae in together.saes] == [0, 1, 2]
    everything = [*saes, random_sae(model, 1)]
    same(vectors_of(together, everything), plus(vectors_of(v, saes), vectors_of(third, everything)))
    with pytest.raises(
        CorrSteerError, match=r"'v' and 'w' cannot be added: the first is of tiny-llama .* second of other"
    ):
        v + replace(w, model="other", model_fingerprint="0" * 12)
    strange = replace(w, saes=(w.saes[0], replace(w.saes[1], fingerprint="f" * 12)))
    with pytest.raises(CorrSteerError, match=r"at layer 2 the first has the SAE .* the second .*ffff"):
        v + strange
