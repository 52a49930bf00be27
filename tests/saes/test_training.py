"""Training SAEs on a tiny model: what is collected, what is measured, and numbers that are none."""

import numpy as np
import pytest
import torch
from sae_lens import SAE

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.hooks import HookPoint, hooked
from corrsteer_core.saes.training import TrainConfig, collect, measure, train
from tests.made.models import WIDTH, tiny

CONFIG = TrainConfig(layers=(1, 2), tokens=1280, d_sae=64, k=4, length=16, batch=128)


def silent(stage, done, total):
    pass


def sequences(n=90):
    return np.random.default_rng(0).integers(2, 200, (n, CONFIG.length)).tolist()


def loud(factor):
    """A model whose residual stream is as large as Gemma 3's, which float16 does not hold."""
    model = tiny.__wrapped__("llama")
    model.net.get_input_embeddings().weight.data *= factor
    return model


def residuals(model, layer):
    """(tokens, d_model) after a layer, the first position of every sequence left out."""
    seen = []
    with torch.inference_mode(), hooked({model.site(HookPoint(layer)): lambda x: seen.append(x.clone())}):
        model.net(torch.tensor(sequences()))
    return seen[0][:, 1:].reshape(-1, WIDTH)


def test_residuals_of_any_size_are_collected_as_they_are(tmp_path):
    model = loud(1e6)
    stores = collect(model, sequences(), CONFIG, tmp_path, silent)
    for layer, store in stores.items():
        expected = residuals(model, layer)
        assert expected.abs().max() > np.finfo(np.float16).max
        torch.testing.assert_close(store.float(), expected, rtol=2**-8, atol=0)


def test_residuals_that_are_no_numbers_are_refused(tmp_path):
    with pytest.raises(CorrSteerError, match="residual stream of tiny-llama after layer 1 is not finite"):
        collect(loud(float("nan")), sequences(), CONFIG, tmp_path, silent)


def test_an_sae_is_trained_on_them_and_its_card_says_how_well(tmp_path):
    model = loud(1e6)
    store = collect(model, sequences(), CONFIG, tmp_path, silent)[1]
    card = train(model, 1, store, tmp_path / "sae", CONFIG, silent)
    assert (card["layer"], card["hook_name"]) == (1, "blocks.1.hook_resid_post")
    assert card["tokens_measured"] == len(store) - int(len(store) * 0.98)
    sae = SAE.load_from_disk(tmp_path / "sae", dtype="float32")
    x = store[-card["tokens_measured"] :].float()
    with torch.inference_mode():
        z = sae.encode(x)
        off = (sae.decode(z) - x).double()
    deviation = (x - x.mean(0)).double()
    assert card["variance_explained"] == pytest.approx(float(1 - off.pow(2).sum() / deviation.pow(2).sum()), abs=1e-3)
    assert card["l0"] == pytest.approx(float((z > 0).sum() / len(x)), abs=0.01)
    assert {key: card[key] for key in measure(sae, x)} == measure(sae, x)
