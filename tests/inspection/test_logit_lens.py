"""Promoted tokens and nearest features against NumPy, from the raw weights of each architecture."""

import numpy as np
import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.inspection.logit_lens import (
    nearest,
    normed,
    promoted,
    residual_directions,
    token_label,
    token_scores,
)
from corrsteer_core.models.hooks import HookPoint, hooked
from tests.made.models import ARCHITECTURES, FAST, random_sae, tiny

FEATURES = [0, 7, 31]


def numbers(tensor):
    return tensor.detach().numpy().astype(np.float64)


def through_the_final_norm(model, d):
    """The norm's learned part, written out per architecture."""
    net, kind = model.net, model.net.config.model_type
    if kind == "gpt2":
        return (d - d.mean(-1, keepdims=True)) * numbers(net.transformer.ln_f.weight)
    if kind == "gpt_neox":
        return (d - d.mean(-1, keepdims=True)) * numbers(net.gpt_neox.final_layer_norm.weight)
    if kind == "olmo":  # its layer norm has no weights
        return d - d.mean(-1, keepdims=True)
    weight = numbers(net.model.norm.weight)
    return d * (1 + weight if kind.startswith("gemma") else weight)


def with_learned_norms(architecture):
    """A model whose norms have weights of their own; as they come, all are one."""
    model = tiny.__wrapped__(architecture)
    torch.manual_seed(3)
    for weight in model.net.parameters():
        if weight.dim() == 1:
            weight.data += 0.5 * torch.randn_like(weight)
    return model


def scored(model, d):
    scores = through_the_final_norm(model, d) @ numbers(model.net.get_output_embeddings().weight).T
    return scores - scores.mean(-1, keepdims=True)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "olmo", "olmo2", "gpt_oss"])
def test_scores_equal_the_weights_multiplied_by_hand(architecture):
    model = with_learned_norms(architecture)
    sae = random_sae(model, 1)
    expected = scored(model, numbers(sae.net.W_dec)[FEATURES])
    np.testing.assert_allclose(token_scores(model, sae, FEATURES).numpy(), expected, rtol=1e-4, atol=1e-4)
    for found, row in zip(promoted(model, sae, FEATURES, top=5), expected, strict=True):
        order = np.argsort(-row)
        assert [one.token for one in found.promoted] == order[:5].tolist()
        assert [one.token for one in found.suppressed] == order[::-1][:5].tolist()
        assert [one.score for one in found.promoted] == pytest.approx(row[order[:5]].tolist(), abs=1e-4)
        assert found.promoted[0].text == token_label(model, int(order[0]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_scores_are_how_logits_move_without_the_norms_own_factor(architecture):
    """The norm of a sum, times the size it divides by, is the norm of its parts: the direction's part is `normed`."""
    model = with_learned_norms(architecture)
    norm = model.net.get_submodule(model.layout.final_norm)
    layer_norm = isinstance(norm, torch.nn.LayerNorm)
    torch.manual_seed(0)
    x, d = 100 * torch.randn(1, 32), 100 * torch.randn(1, 32)  # large beside the norm's epsilon

    def undivided(y):
        centred = y - y.mean() if layer_norm else y
        return (norm(y) - (norm.bias if layer_norm else 0)) * centred.pow(2).mean().sqrt()

    found = normed(model, d)
    torch.testing.assert_close(undivided(x + d) - undivided(x), found, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_features_of_the_heads_outputs_go_through_the_projection(architecture):
    """What adding a feature at attn_z adds to the block's output, up to the factor of a norm in between."""
    model = with_learned_norms(architecture)
    sae = random_sae(model, 1, "attn_z")
    found = residual_directions(model, sae, [5])[0]
    direction = sae.directions([5])[0]
    seen = []

    def run(change):
        with (
            torch.inference_mode(),
            hooked(
                {model.site(sae.point): change, model.site(HookPoint(1, "attn_out")): lambda x: seen.append(x[0, -1])}
            ),
        ):
            model.net(torch.tensor([[5, 6, 7]]))

    gemma = model.net.config.model_type.startswith("gemma")
    if gemma:  # alone, so that the norm behind the projection has nothing else to divide
        run(lambda x: torch.zeros_like(x) + 1e3 * direction)
        added = seen[0]
    else:
        run(lambda x: x + direction)
        run(lambda x: x)
        added = seen[0] - seen[1]
        torch.testing.assert_close(added, found, atol=1e-4, rtol=1e-3)
    assert torch.cosine_similarity(added, found, dim=0) == pytest.approx(1, abs=1e-4)


def test_padding_rows_of_the_vocabulary_are_no_tokens():
    model = tiny.__wrapped__("llama")
    model.net.resize_token_embeddings(len(model.tokenizer) + 60)
    sae = random_sae(model, 1)
    assert token_scores(model, sae, [0]).shape == (1, len(model.tokenizer))


def test_a_feature_that_is_not_there_is_said():
    model = tiny("llama")
    with pytest.raises(CorrSteerError, match="features 0 to 47, but 48"):
        promoted(model, random_sae(model, 1), [48])
    with pytest.raises(CorrSteerError, match="features 0 to 47, but -1"):
        nearest([random_sae(model, 1)], 1, -1)
    with pytest.raises(CorrSteerError, match="no SAE of layer 2"):
        nearest([random_sae(model, 1)], 2, 0)


def test_parts_of_characters_are_spelled_out():
    model = tiny("llama")
    (part, *_) = model.tokenizer("é")["input_ids"]
    assert token_label(model, part) == "⟨Ã⟩"
    assert token_label(model, model.tokenizer("a")["input_ids"][0]) == "a"
    assert token_label(model, 0) == "<|im_start|>"


def rescaled_topk(model, layer):
    from sae_lens import TopKSAE, TopKSAEConfig

    from corrsteer_core.saes.sae import _placed

    torch.manual_seed(layer)
    net = TopKSAE(
        TopKSAEConfig(d_in=32, d_sae=48, k=4, rescale_acts_by_decoder_norm=True, device="cpu", dtype="float32")
    )
    net.W_dec.data.normal_()
    net.cfg.metadata.hook_name = HookPoint(layer).name
    return _placed(net, f"topk/{layer}")


@pytest.mark.parametrize("make", [random_sae, rescaled_topk])
def test_nearest_features_equal_cosines_of_directions(make):
    model = tiny("llama")
    saes = [make(model, layer) for layer in (0, 1, 2)]
    units = []
    for sae in saes:
        directions = numbers(sae.directions(range(sae.d_sae)))
        units.append(directions / np.linalg.norm(directions, axis=1, keepdims=True))
    cosines = np.stack(units) @ units[1][9]
    cosines[1, 9] = -2
    best = np.argsort(-cosines, axis=None)[:6]
    found = nearest(saes, 1, 9, top=6)
    assert [(one.layer, one.feature) for one in found] == [divmod(int(place), 48) for place in best]
    assert [one.cosine for one in found] == pytest.approx(cosines.flat[best].tolist(), abs=1e-5)
    others = [one for one in nearest(saes, 1, 9, top=200) if one.layer != 1]
    assert nearest(saes, 1, 9, top=200, elsewhere=True) == others
    within = nearest([saes[1]], 1, 9, top=60)
    assert len(within) == 47
    assert {one.layer for one in within} == {1}


@pytest.mark.parametrize("architecture", FAST)
def test_saes_of_another_space_are_not_compared(architecture):
    model = tiny(architecture)
    saes = [random_sae(model, 1), random_sae(model, 2, "attn_z")]
    assert {one.layer for one in nearest(saes, 1, 0, top=99)} == {1}
