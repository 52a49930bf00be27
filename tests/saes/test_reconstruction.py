"""Does an SAE belong where it is put: numbers against NumPy, and what is said of an SAE put one block off."""

import numpy as np
import pytest
import torch

from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.saes.reconstruction import Fit, explained, looks_broken
from corrsteer_core.saes.sae import _placed
from tests.made.models import FAST, activations_at, each, prompts, random_sae, tiny

RANK = 10


def activations(model, point):
    """(positions, d) at a hook point, float64, the first position of every prompt left out."""
    return np.concatenate([activations_at(model, point, ids)[1:].double().numpy() for ids in prompts(model)])


def principal_sae(model, point, says=None, d_sae=2 * RANK):
    """An SAE trained, so to speak, at a point: both signs of its first principal directions. `says` is what its metadata says."""
    from sae_lens import StandardSAE, StandardSAEConfig

    x = activations(model, point)
    basis = np.linalg.svd(x - x.mean(0))[2][:RANK]
    net = StandardSAE(StandardSAEConfig(d_in=x.shape[1], d_sae=d_sae, device="cpu", dtype="float32"))
    net.W_enc.data = torch.tensor(np.concatenate([basis, -basis]).T).float()
    net.W_dec.data = torch.tensor(np.concatenate([basis, -basis])).float()
    net.b_enc.data.zero_()
    net.b_dec.data = torch.tensor(x.mean(0)).float()
    net.cfg.metadata.hook_name = (says or point).name
    return _placed(net, "principal")


def share(x, sae):
    """Variance explained and L0 of a principal SAE on activations, in NumPy."""
    basis, mean = sae.net.W_dec[:RANK].double().numpy(), sae.net.b_dec.double().numpy()
    back = (x - mean) @ basis.T @ basis + mean
    explained = 1 - ((x - back) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    return explained, (((x - mean) @ basis.T) != 0).sum() / len(x)


@pytest.mark.parametrize(
    ("architecture", "kind"), each(FAST, ["resid_pre", "resid_post", "mlp_out", "attn_out", "attn_z"])
)
def test_variance_explained_and_l0_are_what_numpy_says(architecture, kind):
    model = tiny(architecture)
    sae = principal_sae(model, HookPoint(1, kind))
    fits = explained(model, [sae], prompts(model))[0]
    assert [fit.point for fit in fits] == [HookPoint(layer, kind) for layer in (1, 0, 2)]
    for fit in fits:
        expected, l0 = share(activations(model, fit.point), sae)
        assert fit.variance_explained == pytest.approx(expected, abs=1e-3)
        assert fit.l0 == pytest.approx(l0, abs=0.2)
        assert fit.positions == sum(len(ids) - 1 for ids in prompts(model))
    assert looks_broken(*fits) is None


@pytest.mark.parametrize("trained", [0, 2])
def test_an_sae_of_the_block_before_or_after_is_said_to_be_off_by_one(trained):
    model = tiny("llama")
    sae = principal_sae(model, HookPoint(trained), says=HookPoint(1))
    said = looks_broken(*explained(model, [sae], prompts(model))[0])
    assert said is not None
    assert f"explains more at layer {trained}" in said
    assert "off by one" in said


def test_an_sae_of_a_blocks_input_that_says_output_is_off_by_one():
    model = tiny("llama")
    sae = principal_sae(model, HookPoint(1, "resid_pre"), says=HookPoint(1, "resid_post"))
    said = looks_broken(*explained(model, [sae], prompts(model))[0])
    assert said is not None
    assert "explains more at layer 0" in said


def test_several_saes_are_checked_in_one_reading_of_each_prompt_and_progress_is_told():
    model = tiny("llama")
    saes = [random_sae(model, layer) for layer in (0, 1, 2)]
    alone = [explained(model, [sae], prompts(model))[0] for sae in saes]
    read, reported = [], []
    handle = model.net.register_forward_hook(lambda *_: read.append(1))
    together = explained(model, saes, prompts(model), lambda stage, done, total: reported.append((done, total)))
    handle.remove()
    assert together == alone
    assert len(read) == len(prompts(model))
    assert reported == [(done, len(read)) for done in range(len(read) + 1)]


def test_first_and_last_layers_have_one_neighbour():
    model = tiny("llama")
    for layer, other in ((0, 1), (2, 1)):
        fits = explained(model, [random_sae(model, layer)], prompts(model))[0]
        assert [fit.point.layer for fit in fits] == [layer, other]


def test_an_sae_of_centred_gpt2_is_checked_on_what_it_was_trained_on():
    model = tiny("gpt2")
    point = HookPoint(1, "resid_pre")
    x = activations(model, point)
    sae = principal_sae(model, point)
    centred = x - x.mean(-1, keepdims=True)
    basis = np.linalg.svd(centred - centred.mean(0))[2][:RANK]
    sae.net.W_enc.data = torch.tensor(np.concatenate([basis, -basis]).T).float()
    sae.net.W_dec.data = torch.tensor(np.concatenate([basis, -basis])).float()
    sae.net.b_dec.data = torch.tensor(centred.mean(0)).float()
    sae.net.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    expected, _ = share(centred, sae)
    assert explained(model, [sae], prompts(model))[0][0].variance_explained == pytest.approx(expected, abs=1e-3)


def fit_of(layer, explained, l0=20.0):
    return Fit(HookPoint(layer), explained, l0, 100)


@pytest.mark.parametrize(
    ("own", "neighbours", "expected"),
    [
        (fit_of(5, 0.8), [fit_of(4, 0.5), fit_of(6, 0.6)], None),
        (fit_of(5, 0.8), [], None),
        (fit_of(5, 0.5), [fit_of(4, 0.3), fit_of(6, 0.7)], "explains more at layer 6 (70%) than at its own layer 5 (50%)"),
        (fit_of(5, 0.1), [fit_of(4, 0.05)], "explains only 10% of the variance at blocks.5.hook_resid_post"),
        (fit_of(5, -3.0), [fit_of(4, -9.0)], "explains only -300%"),
        (fit_of(5, 0.0, l0=0.0), [fit_of(4, 0.0, l0=0.0)], "No feature of the SAE fires"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_pairing(own, neighbours, expected):
    said = looks_broken(own, *neighbours)
    assert said is None if expected is None else expected in said
