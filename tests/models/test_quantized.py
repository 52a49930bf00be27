"""Weights in fewer bits, by bitsandbytes itself: its numbers by an independent computation, and the method's identities."""

import numpy as np
import pytest
import torch
from torch import nn

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.generation import UNSTEERED
from corrsteer_core.method import forecast
from corrsteer_core.models import devices
from corrsteer_core.models.loading import load_model
from corrsteer_core.runs.run_config import QUANTIZED
from tests.made.models import made_of, prompts, random_sae, small_config

pytest.importorskip("bitsandbytes")
NF4 = np.array([
    -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
])  # fmt: skip
"""The sixteen values of arXiv 2305.14314, appendix E: quantiles of the normal distribution, with 0 among them."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    for name in (devices.QUANTIZE_VARIABLE, devices.DTYPE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """Where a tiny model of an architecture is saved, to be loaded from."""

    def saved(architecture: str, width: int = 64) -> str:
        folder = tmp_path_factory.mktemp(architecture)
        sizes = {"hidden_size": width, "intermediate_size": 2 * width, "head_dim": width // 4}
        made = made_of(small_config(architecture, **sizes), architecture)
        made.net.save_pretrained(folder)
        made.tokenizer.save_pretrained(folder)
        return str(folder)

    return saved


def linear_layers(net: nn.Module) -> dict[str, nn.Module]:
    head = net.get_output_embeddings()
    return {name: part for name, part in net.named_modules() if isinstance(part, nn.Linear) and part is not head}


def by_hand(plain: nn.Module, asked: str, given: np.ndarray) -> np.ndarray:
    """What a linear layer gives with weights in so many bits: (n, d_in) to (n, d_out)."""
    weight = plain.weight.detach().numpy()
    bias = 0 if plain.bias is None else plain.bias.detach().numpy()
    if asked == "8bit":  # weights by row, numbers by position; whole numbers are multiplied
        weight, given = weight.astype(np.float16), given.astype(np.float16)
        rows, positions = (np.abs(one).max(1, keepdims=True).astype(np.float32) for one in (weight, given))
        product = np.rint(given * (127 / positions)) @ np.rint(weight * (127 / rows)).T
        return product * positions * rows.T / 127**2 + bias
    blocks = weight.reshape(-1, 64)
    most = np.abs(blocks).max(1, keepdims=True)
    nearest = NF4[np.abs(blocks[..., None] / most[..., None] - NF4).argmin(-1)]
    return given @ (nearest * most).reshape(weight.shape).T + bias


@pytest.mark.parametrize("asked", QUANTIZED)
def test_every_linear_layer_but_the_head_gives_the_numbers_of_fewer_bits(folder_of, asked):
    folder = folder_of("llama")
    plain = linear_layers(load_model(folder, dtype=torch.float32).net)
    packed = load_model(folder, dtype=torch.float32, quantize=asked)
    assert packed.arithmetic == f"float32, {QUANTIZED[asked]}"
    torch.manual_seed(0)
    for name, layer in linear_layers(packed.net).items():
        given = torch.randn(5, plain[name].in_features)
        found, wanted = layer(given).numpy(), by_hand(plain[name], asked, given.numpy())
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-3 * np.abs(wanted).max(), err_msg=name)
        assert not np.allclose(found, plain[name](given).detach().numpy(), rtol=2e-3), "nothing was rounded"
    assert packed.net.get_output_embeddings().weight.dtype == torch.float32


def test_a_prompt_beside_one_with_large_numbers_keeps_its_answer(folder_of):
    """LLM.int8's own way leaves the columns unrounded in which any row of a batch is large: a neighbour changes an answer."""
    layer = next(iter(linear_layers(load_model(folder_of("llama"), dtype=torch.float32, quantize="8bit").net).values()))
    torch.manual_seed(0)
    mine, large = torch.randn(1, layer.in_features), torch.randn(1, layer.in_features)
    large[0, 3] = 40.0
    together = layer(torch.cat([mine, large]))[:1]
    assert torch.equal(layer(mine), together)
    layer.state.threshold = 6.0
    assert not torch.equal(layer(mine), layer(torch.cat([mine, large]))[:1]), "this layer would not show the fault"


@pytest.mark.parametrize("asked", QUANTIZED)
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "qwen3"])
def test_a_batch_gives_what_its_prompts_give_alone_and_scale_nought_changes_nothing(
    folder_of, architecture, asked, capsys, caplog
):
    model = load_model(folder_of(architecture), dtype=torch.float32, quantize=asked)
    capsys.readouterr()
    sae = random_sae(model, 1, d_sae=40)
    asks = prompts(model)
    (both,) = answers(model, asks, max_new_tokens=6, saes=[sae], batch_size=5)
    for place, number in enumerate(both.prompts):
        (alone,) = answers(model, [asks[number]], max_new_tokens=6, saes=[sae])
        assert alone.tokens[0] == both.tokens[place]
        torch.testing.assert_close(alone.pooled[0][0], both.pooled[0][place], rtol=0.02, atol=0.02)
    nought = {sae.point: torch.zeros(model.d_model)}
    (steered,) = answers(model, asks, max_new_tokens=6, variants=[UNSTEERED, nought], batch_size=5)
    assert all(first == second for first, second in steered.tokens)
    assert capsys.readouterr() == ("", "")
    assert not caplog.messages


@pytest.mark.parametrize("asked", QUANTIZED)
def test_gradients_pass_through_every_layer(folder_of, asked):
    """A rounded product has no slope of its own: the gradient is that of the product with the weights as they were rounded."""
    net = load_model(folder_of("llama"), dtype=torch.float32, quantize=asked).net
    torch.manual_seed(0)
    for name, layer in linear_layers(net).items():
        with torch.no_grad():  # the columns of the weights: what each unit vector gives
            weight = layer(torch.eye(layer.in_features)).T
        given = torch.randn(3, layer.in_features, requires_grad=True)
        toward = torch.randn(3, layer.out_features)
        (found,) = torch.autograd.grad((layer(given) * toward).sum(), given)
        torch.testing.assert_close(found, toward @ weight, rtol=2e-3, atol=2e-3, msg=name)


@pytest.mark.parametrize("asked", QUANTIZED)
@pytest.mark.parametrize("dtype", devices.DTYPES.values())
def test_a_run_goes_on_in_the_bits_that_it_was_made_in(folder_of, monkeypatch, asked, dtype):
    folder = folder_of("llama")
    model = load_model(folder, dtype=dtype, quantize=asked)
    again = load_model(folder, like=model.arithmetic)
    assert (again.fingerprint, again.arithmetic) == (model.fingerprint, model.arithmetic)
    plain = load_model(folder, dtype=dtype, like="float32")
    assert plain.fingerprint != model.fingerprint, "other weights"
    monkeypatch.setenv(devices.QUANTIZE_VARIABLE, asked)
    assert load_model(folder, dtype=dtype, like="float32").fingerprint == model.fingerprint, "what is asked goes first"


@pytest.mark.parametrize("asked", ["", *QUANTIZED])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_configuration_alone_says_what_fewer_bits_take(folder_of, architecture, asked):
    model = load_model(folder_of(architecture), dtype=torch.float32, quantize=asked)
    told = forecast.memory_of_config(model.net.config, torch.float32, 0, 1, 10**9, asked)
    assert told.weights == pytest.approx(forecast.memory_here(model, []).weights, rel=0.02)


def test_widths_for_which_four_bits_give_wrong_numbers_on_a_cpu_are_refused(folder_of):
    folder = folder_of("llama", 96)
    with pytest.raises(CorrSteerError, match=r"has layers of width 96, no multiple of 64.* say --quantize 8bit"):
        load_model(folder, dtype=torch.float32, quantize="4bit")
    load_model(folder, dtype=torch.float32, quantize="8bit")


def test_other_words_and_a_package_that_is_not_there_are_said(folder_of, monkeypatch):
    monkeypatch.setenv(devices.QUANTIZE_VARIABLE, "3bit")
    with pytest.raises(
        CorrSteerError, match=r"cannot be kept in '3bit'; say 8bit or 4bit, or unset \$CORRSTEER_QUANTIZE"
    ):
        load_model(folder_of("llama"))
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CorrSteerError, match="pip install 'bitsandbytes>=0.50'"):
        load_model(folder_of("llama"), quantize="4bit")
