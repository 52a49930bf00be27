"""What an SAE is worth, each number against NumPy or the model itself."""

import json
import math

import numpy as np
import pytest
import torch

from corrsteer_core.cli.main import main
from corrsteer_core.models.hooks import HookPoint, hooked
from corrsteer_core.saes import interpretability
from corrsteer_core.saes.activation_files import collect
from corrsteer_core.saes.worth import detected, losses, measure, recovered, worth
from tests.made.models import FAST, each, random_sae, tiny

LENGTH = 40


def sequences(n=30):
    return np.random.default_rng(0).integers(2, 200, (n, LENGTH))


def silent(stage, done, total):
    pass


def activations(model, point, n=30):
    """(positions, d) at a hook point, the first position of every sequence left out."""
    seen = []
    with torch.no_grad(), hooked({model.site(point): lambda x: seen.append(x[:, 1:].clone())}):
        model.net(torch.tensor(sequences(n)))
    return seen[0].flatten(0, 1).clone()


def in_numpy(sae, x):
    """Features and reconstructions of a random ReLU SAE, in float64."""
    w = {name: value.double().numpy() for name, value in sae.net.state_dict().items()}
    z = np.maximum((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 0)
    return z, z @ w["W_dec"] + w["b_dec"]


def explained(x, back):
    return 1 - ((x - back) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()


def test_the_numbers_of_a_card_are_what_numpy_says():
    model = tiny("llama")
    sae = random_sae(model, 1)
    sae.net.W_enc.data[:, :5] = 0
    sae.net.b_enc.data[:3] = 1.0  # always on
    sae.net.b_enc.data[3:5] = -1.0  # never
    sae.net.b_enc.data[5:20] -= 9.0  # some rare, some not
    x = activations(model, sae.point)
    x[::50] *= 200  # positions that hold most of the variance
    found = measure(sae, x)
    x = x.double().numpy()
    z, back = in_numpy(sae, x)
    norms = np.linalg.norm(x, axis=1)
    usual = norms <= 10 * np.median(norms)
    assert usual.sum() == len(x) - len(x[::50])
    assert found["tokens_measured"] == len(x)
    assert found["variance_explained"] == pytest.approx(explained(x, back), abs=1e-3)
    assert found["variance_explained_usual"] == pytest.approx(explained(x[usual], back[usual]), abs=1e-3)
    assert found["variance_explained"] != pytest.approx(found["variance_explained_usual"], abs=0.01)
    share = (z > 0).mean(0)
    assert found["l0"] == pytest.approx(share.sum(), abs=0.01)
    assert found["dead"] == pytest.approx((share == 0).mean(), abs=1e-4)
    assert found["dense"] == pytest.approx((share > 0.1).mean(), abs=1e-4)
    assert 0 < found["dead"] < found["dense"] < 1


@pytest.mark.parametrize(("architecture", "kind"), each(FAST, ["resid_post", "resid_pre", "mlp_out", "attn_z"]))
def test_losses_are_those_of_the_model_with_its_activation_replaced(architecture, kind):
    model = tiny(architecture)
    sae = random_sae(model, 1, kind)
    texts = sequences(6)
    x = activations(model, sae.point, 6)
    found = losses(model, sae, texts, x.double().mean(0))
    assert found["model"] != pytest.approx(found["sae"], abs=1e-3)
    _, back = in_numpy(sae, x.double().numpy())
    for name, new in (("model", x), ("sae", torch.tensor(back)), ("mean", x.mean(0).expand_as(x))):
        total = 0.0
        for row, text in enumerate(texts):  # one by one, where the tool takes several
            rows = new.view(6, LENGTH - 1, -1)[row]

            def put(activation, rows=rows):
                return torch.cat([activation[:, :1], rows[None].to(activation.dtype)], 1)

            with torch.inference_mode(), hooked({model.site(sae.point): put}):
                logits = model.net(torch.tensor(text)[None]).logits[0].double().numpy()
            chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            total -= sum(math.log(chances[at, text[at + 1]]) for at in range(1, LENGTH - 1))
        assert found[name] == pytest.approx(total / 6 / (LENGTH - 2), abs=1e-4), name


def test_an_sae_that_gives_back_what_it_reads_recovers_the_whole_loss():
    model = tiny("llama")
    sae = random_sae(model, 1, d_sae=64)
    one = torch.eye(32)
    sae.net.W_enc.data = torch.cat([one, -one], 1)
    sae.net.W_dec.data = torch.cat([one, -one])
    for bias in (sae.net.b_enc, sae.net.b_dec):
        bias.data.zero_()
    row = worth(model, sae, sequences(), activations(model, sae.point))
    assert row["loss_recovered"] == pytest.approx(1.0, abs=1e-4)
    assert row["loss_sae"] == pytest.approx(row["loss_model"], abs=1e-4)
    assert row["variance_explained"] == row["variance_explained_usual"] == 1.0


def test_loss_recovered_is_1_for_the_models_own_and_0_for_the_means():
    lost = {"model": 3.5, "mean": 10.5}
    assert [recovered(lost | {"sae": sae}) for sae in (3.5, 10.5, 4.2)] == pytest.approx([1, 0, 0.9])


def test_centred_models_keep_the_mean_that_their_sae_does_not_read():
    model = tiny("gpt2")
    sae = random_sae(model, 1)
    sae.net.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    # Reads the mean away and gives back nothing: what is left of every position is its mean alone.
    sae.net.W_dec.data.zero_()
    sae.net.b_dec.data.zero_()
    seen = []
    blocks = model.blocks
    handle = blocks[2].register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    x = activations(model, sae.point, 2)
    losses(model, sae, sequences(2), torch.zeros(32))
    handle.remove()
    replaced = seen[2][:, 1:].flatten(0, 1)  # the second pass of the three, after one of the test's own
    torch.testing.assert_close(replaced, x.mean(-1, keepdim=True).expand_as(x), atol=1e-5, rtol=1e-4)


def test_detection_asks_about_the_windows_and_words_of_the_sequences():
    """A feature that reads one token's embedding is told from its words; one of noise is not."""
    model = tiny("llama")
    texts = sequences(300)
    sae = random_sae(model, 0, "resid_pre", d_sae=1)
    token = model.net.get_input_embeddings().weight[7]
    sae.net.W_enc.data[:, 0] = token / token.norm() ** 2
    sae.net.b_enc.data[:] = -0.9
    sae.net.b_dec.data.zero_()
    x = model.net.get_input_embeddings()(torch.tensor(texts))[:, 1:].flatten(0, 1)
    found = detected(sae, texts, x)
    assert found.features == 1
    assert found.auc > 0.9
    shifted = detected(sae, np.roll(texts, 1, axis=0), x)
    assert shifted.auc < 0.7, "the words of other sequences say nothing"
    assert interpretability.WINDOW * 2 <= LENGTH - 1


def test_check_with_a_text_prints_the_card(tmp_path, capsys, monkeypatch):
    from corrsteer_core.models import loading
    from corrsteer_core.saes import sae as saes

    model = tiny("llama")
    kinds = [random_sae(model, 0), random_sae(model, 1, "mlp_out")]
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: model)
    monkeypatch.setattr(saes, "load_saes", lambda *_: kinds)
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat, and it was happy there.\n" * 60)
    asked = ["check", "--model", "x", "--sae", "y", "--card", str(text), "--tokens", "1280", "--json", "--quiet"]
    assert main(asked) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["hook_name"] for row in rows] == [one.point.name for one in kinds]
    for row, one in zip(rows, kinds, strict=True):
        assert row["tokens_measured"] == 10 * 127
        assert row["sae"] == one.source
        lost = {
            name: row[f"loss_{name}"] for name in ("model", "sae", "mean")
        }  # rounded, and so is what is made of them
        assert row["loss_recovered"] == pytest.approx(recovered(lost), rel=0.01)


def test_several_hook_points_come_from_one_reading(tmp_path):
    model = tiny("gemma2")
    points = [HookPoint(2, "attn_z"), HookPoint(0), HookPoint(2), HookPoint(1, "resid_pre")]
    stores = collect(model, sequences(20), points, tmp_path, silent)
    for point in points:
        torch.testing.assert_close(stores[point].float(), activations(model, point, 20), rtol=2**-8, atol=1e-6)
