"""Steering sets as values, their vectors, and what is refused when one is read."""

import json

import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.steering import check_model, vectors_of
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet, load_set, save_set
from tests.made.models import random_sae, tiny
from tests.made.sets import empty_set


@pytest.fixture
def made():
    model = tiny("llama")
    saes = [random_sae(model, 0), random_sae(model, 2)]
    rows = (
        SteeringRow(0, 3, 2.0),
        SteeringRow(2, 5, -1.5),
        SteeringRow(2, 7, 0.5),
        SteeringRow(2, 9, 9.0, enabled=False),
    )
    return model, saes, empty_set(model, saes, rows=rows, scale=2.0, name="mine")


def test_vectors_are_the_sum_of_scaled_decoder_rows(made):
    _, saes, steering = made
    vectors = vectors_of(steering, saes)
    assert set(vectors) == {HookPoint(0), HookPoint(2)}
    torch.testing.assert_close(vectors[HookPoint(0)], 4.0 * saes[0].net.W_dec[3])
    torch.testing.assert_close(vectors[HookPoint(2)], -3.0 * saes[1].net.W_dec[5] + saes[1].net.W_dec[7])


def test_scale_zero_and_a_set_with_its_negative_give_no_vector(made):
    _, saes, steering = made
    for vector in vectors_of(steering.scaled(0.0), saes).values():
        assert torch.count_nonzero(vector) == 0
    back = vectors_of((-steering), saes)
    for point, vector in vectors_of(steering, saes).items():
        torch.testing.assert_close(vector + back[point], torch.zeros_like(vector))


def test_a_direction_is_what_the_decoder_adds(made):
    """decode(z + c e_i) - decode(z), for SAEs that rescale inside too."""
    from sae_lens import TopKSAE, TopKSAEConfig

    from corrsteer_core.saes.sae import _placed

    _, saes, _ = made
    torch.manual_seed(0)
    topk = TopKSAE(
        TopKSAEConfig(d_in=32, d_sae=48, k=4, rescale_acts_by_decoder_norm=True, device="cpu", dtype="float32")
    )
    topk.W_dec.data.normal_()
    topk.cfg.metadata.hook_name = "blocks.1.hook_resid_post"
    for sae in (saes[0], _placed(topk, "topk")):
        z = torch.rand(1, 48)
        more = z.clone()
        more[0, 11] += 3.0
        expected = sae.net.decode(more) - sae.net.decode(z)
        torch.testing.assert_close(3.0 * sae.directions([11]), expected, atol=1e-5, rtol=1e-4)


def test_saved_and_loaded_it_is_the_same(made, tmp_path):
    _, _, steering = made
    save_set(steering, tmp_path / "deep" / "set.json")
    assert load_set(tmp_path / "deep" / "set.json") == steering
    body = json.loads((tmp_path / "deep" / "set.json").read_text())
    assert body["model"] == "tiny-llama"
    assert body["saes"][0]["hook_name"] == "blocks.0.hook_resid_post"
    assert body["rows"][0]["coefficient"] == 2.0


def changed(**changes):
    def change(body):
        body.update(changes)

    return change


def in_row(**changes):
    def change(body):
        body["rows"][0].update(changes)

    return change


def in_style(**changes):
    def change(body):
        body["style"].update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_row(feature=48), "There is no feature 48 of layer 0.*0 to 47"),
        (in_row(feature=-1), "There is no feature -1"),
        (in_row(layer=1), "There is no SAE for feature 3 of layer 1.*layers 0, 2"),
        (in_row(coefficient=float("nan")), "coefficient of feature 3 .* is nan"),
        (in_row(coefficient="2"), "coefficient must be float, not '2'"),
        (in_row(coefficient=10**400), "SteeringRow.coefficient is too large for a number"),
        (changed(scale=-(10**400)), "SteeringSet.scale is too large for a number"),
        (changed(name="\ud800"), "SteeringSet.name has half a surrogate pair"),
        (in_row(note="\udfff"), "SteeringRow.note has half a surrogate pair"),
        (in_style(system="\ud800"), "PromptStyle.system has half a surrogate pair"),
        (in_style(shots=[["\ud800", "x"]]), "shots has half a surrogate pair"),
        (in_style(shots=[["x", 3]]), "shots must be str, not 3"),
        (in_row(feature=2.5), "feature must be int"),
        (in_row(feature=True), "feature must be int"),
        (in_row(colour="red"), "missing or wrong field"),
        (in_row(layer=2, feature=5), "two rows for feature 5 of layer 2"),
        (changed(scale=float("inf")), "scale inf"),
        (changed(rows=None), "missing or wrong field"),
        (changed(format="other"), "not a steering set"),
        (changed(version=99), "version 99"),
        (changed(extra=1), "missing or wrong field"),
        (lambda body: body.pop("saes"), "missing or wrong field"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(made, tmp_path, change, message):
    body = json.loads(made[2].to_json())
    change(body)
    path = tmp_path / "set.json"
    path.write_text(json.dumps(body))
    with pytest.raises(CorrSteerError, match=message):
        load_set(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "\x00", "1" * 5_000, '{"scale": ' + "1" * 5_000])
def test_text_that_is_no_set_is_refused(text):
    with pytest.raises(CorrSteerError, match="not JSON|not a steering set"):
        SteeringSet.from_json(text)


def test_whole_numbers_become_floats_where_floats_are_declared(made):
    body = json.loads(made[2].to_json())
    body["scale"], body["rows"][0]["coefficient"] = 2, 5
    read = SteeringSet.from_json(json.dumps(body))
    assert [type(read.scale), type(read.rows[0].coefficient), type(read.rows[0].layer)] == [float, float, int]
    assert (read.scale, read.rows[0].coefficient) == (2.0, 5.0)


def test_a_file_that_lies_about_the_size_of_an_sae_is_refused(made):
    _, saes, steering = made
    body = json.loads(steering.to_json())
    body["saes"][0]["d_sae"] = 10_000
    body["rows"][0]["feature"] = 9_999
    with pytest.raises(CorrSteerError, match="another SAE for layer 0"):
        vectors_of(SteeringSet.from_json(json.dumps(body)), saes)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(CorrSteerError, match=r"There is no steering set .*none\.json; check the path"):
        load_set(tmp_path / "none.json")
    with pytest.raises(CorrSteerError, match="could not be read"):
        load_set(tmp_path)


@pytest.mark.parametrize("scale", [1e300, -1e300, 1e30])
def test_a_vector_too_long_to_compute_with_is_refused(made, scale):
    _, saes, steering = made
    with pytest.raises(
        CorrSteerError, match="The vector of 'mine' at blocks.0.hook_resid_post is too long for a float32"
    ):
        vectors_of(steering.scaled(scale), saes)
    assert vectors_of(steering.scaled(1e9), saes)


def test_another_model_and_other_saes_are_refused(made):
    model, saes, steering = made
    with pytest.raises(CorrSteerError, match=r"belongs to tiny-llama .* loaded model is tiny-gpt2"):
        check_model(steering, tiny("gpt2"))
    with pytest.raises(CorrSteerError, match="another SAE for layer 0"):
        vectors_of(steering, [random_sae(model, 0, seed=5), saes[1]])
    with pytest.raises(CorrSteerError, match="needs the SAE"):
        vectors_of(steering, saes[1:])
