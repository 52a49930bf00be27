"""Where a model and its SAEs run: what is asked for, what there is, and weights that lie elsewhere until needed."""

import types

import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.batches import answers
from corrsteer_core.inspection.logit_lens import token_scores
from corrsteer_core.models import devices, loading
from corrsteer_core.models.devices import pick_dtype, place
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.loading import fingerprint, load_model
from corrsteer_core.saes.sae import load_saes
from tests.made.models import FAST, each, prompts, random_sae, tiny


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch):
    monkeypatch.delenv(devices.DEVICE_VARIABLE, raising=False)
    monkeypatch.delenv(devices.DTYPE_VARIABLE, raising=False)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def folder(tmp_path):
    """A model and SAEs for two of its layers on disk."""
    made = tiny("llama")
    made.net.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    for layer in (1, 2):
        random_sae(made, layer).net.save_model(tmp_path / "saes" / f"layer_{layer}")
    return tmp_path


def test_what_is_asked_is_what_is_taken(monkeypatch):
    assert place("cpu") == (torch.device("cpu"), False)
    assert place("auto")[1]
    monkeypatch.setenv(devices.DEVICE_VARIABLE, "cpu")
    assert place(None) == (torch.device("cpu"), False)
    assert place("auto")[1], "what is asked goes before what the environment says"


def test_several_gpus_are_used_together_unless_one_is_named(two_gpus):
    assert place(None) == (torch.device("cuda"), True)
    assert place("cuda:1") == (torch.device("cuda:1"), False)
    with pytest.raises(CorrSteerError, match="has no device 'cuda:2'"):
        place("cuda:2")


@pytest.mark.parametrize("asked", ["tpu", "cuda:x", "meta", "gpu"])
def test_an_unknown_device_is_a_sentence(asked):
    with pytest.raises(CorrSteerError, match="say auto, cpu, cuda, cuda:1 or mps"):
        place(asked)


@pytest.mark.parametrize("asked", ["cuda", "cuda:7", "mps"])
def test_a_device_that_is_not_there_is_a_sentence(asked, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(CorrSteerError, match="leave --device out"):
        place(asked)


def test_bfloat16_is_taken_only_where_the_hardware_multiplies_it(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert pick_dtype(cuda) == torch.float32, "older GPUs emulate it"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert pick_dtype(cuda) == torch.bfloat16
    onednn = types.SimpleNamespace(_is_mkldnn_bf16_supported=lambda: True)
    monkeypatch.setattr(torch.ops, "mkldnn", onednn)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True})
    assert pick_dtype(cpu) == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert pick_dtype(cpu) == torch.float32


@pytest.mark.parametrize("native", [True, False])
def test_the_type_that_is_asked_for_is_taken_whatever_the_hardware_does(folder, monkeypatch, native):
    monkeypatch.setattr(devices, "_cpu_multiplies_bf16", lambda: native)
    name = str(folder / "model")
    assert load_model(name).dtype == (torch.bfloat16 if native else torch.float32)
    for asked, dtype in devices.DTYPES.items():
        monkeypatch.setenv(devices.DTYPE_VARIABLE, asked)
        assert load_model(name).dtype == dtype
        assert devices.dtype_to_go_on("float32") is None, "what is asked goes before what a run was made in"
    assert load_model(name, dtype=torch.float32).dtype == torch.float32
    monkeypatch.setenv(devices.DTYPE_VARIABLE, "half")
    with pytest.raises(CorrSteerError, match=r"^\$CORRSTEER_DTYPE names the type 'half'; say float32 or bfloat16"):
        load_model(name)
    monkeypatch.delenv(devices.DTYPE_VARIABLE)
    assert devices.dtype_to_go_on("float32") == load_model(name, like="float32").dtype == torch.float32
    assert devices.dtype_to_go_on("bfloat16, float32 head") is None


def test_the_command_line_hands_the_type_on(folder, monkeypatch, capsys):
    from corrsteer_core.cli import choices
    from corrsteer_core.cli import main as cli

    assert tuple(devices.DTYPES) == choices.dtypes()
    monkeypatch.setenv(devices.DTYPE_VARIABLE, "")
    loaded = []
    real = loading.fingerprint
    monkeypatch.setattr(loading, "fingerprint", lambda net: loaded.append(net.dtype) or real(net))
    arguments = ["check", "--model", str(folder / "model"), "--sae", str(folder / "saes"), "--prompts", "2", "--json"]
    for dtype in devices.DTYPES:
        assert cli.main([*arguments, "--dtype", dtype]) == 0
    assert loaded == [torch.float32, torch.bfloat16]
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--dtype", "float16"])
    assert "invalid choice: 'float16'" in capsys.readouterr().err


def test_pytorch_without_onednn_takes_float32(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", types.SimpleNamespace())  # as in its packages for Apple's processors
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert pick_dtype(torch.device("cpu")) == torch.float32


def test_the_command_line_hands_the_device_on(folder, capsys, monkeypatch):
    from corrsteer_core.cli import main

    monkeypatch.setenv(devices.DEVICE_VARIABLE, "")
    arguments = ["check", "--model", str(folder / "model"), "--sae", str(folder / "saes"), "--prompts", "2", "--json"]
    assert main.main([*arguments, "--device", "cuda:99"]) == 1
    assert "has no device 'cuda:99'" in capsys.readouterr().err
    assert main.main([*arguments, "--device", "cpu"]) == 0


def work(model, saes):
    """Generated ids unsteered and steered, and pooled features, of a few prompts."""
    ids = prompts(model)
    steered = {sae.point: 4.0 * sae.directions([5])[0] for sae in saes}
    (texts,) = answers(model, ids, max_new_tokens=5, variants=[{}, steered], batch_size=8)
    (read,) = answers(model, ids, max_new_tokens=5, saes=saes, batch_size=8)
    return texts.tokens, read.pooled


def test_a_device_map_changes_no_number_by_more_than_rounding(folder):
    plain = load_model(str(folder / "model"), dtype=torch.float32)
    spread = load_model(str(folder / "model"), dtype=torch.float32, device="auto")
    assert spread.fingerprint == plain.fingerprint
    sources = [str(folder / "saes")]
    texts, features = work(plain, load_saes(sources, plain))
    again, same = work(spread, load_saes(sources, spread))
    assert again == texts
    for left, right in zip(features, same, strict=True):  # a few rows are multiplied in another order without a map
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", FAST)
def test_weights_that_are_fetched_when_needed_change_no_number(architecture):
    """What a device map does with layers that fit on no GPU: between two calls their weights are nowhere."""
    from accelerate import cpu_offload

    model = tiny.__wrapped__(architecture)
    saes = [random_sae(model, 1, "resid_pre"), random_sae(model, 2)]
    before, named = work(model, saes), fingerprint(model.net)
    cpu_offload(model.net, execution_device=torch.device("cpu"))
    assert next(model.blocks[1].parameters()).is_meta
    assert model.device == model.device_of(HookPoint(1)) == torch.device("cpu")
    assert fingerprint(model.net) == named
    texts, features = work(model, saes)
    assert texts == before[0]
    for left, right in zip(features, before[1], strict=True):
        torch.testing.assert_close(left, right)


class OnApple(torch.Tensor):
    """A tensor that has no float64 until it is brought to the CPU, as on Apple's GPUs."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.double:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        found = super().__torch_function__(func, types, args, kwargs or {})
        return found.as_subclass(torch.Tensor) if func is torch.Tensor.cpu else found


def test_a_device_without_float64_gets_the_same_numbers(monkeypatch):
    from corrsteer_core.engine import fluency
    from corrsteer_core.saes import reconstruction

    model = tiny("llama")
    sae = random_sae(model, 1)
    ids, outputs = prompts(model)[:2], [[(5, 6), (7,)], [(8,)]]
    fits, scores = reconstruction.explained(model, [sae], ids), fluency.continuation_nll(model, ids, outputs)
    add, continued = reconstruction._Sums.add, fluency.continued
    monkeypatch.setattr(reconstruction._Sums, "add", lambda sums, sae, x: add(sums, sae, x.as_subclass(OnApple)))
    monkeypatch.setattr(fluency, "continued", lambda *given: continued(*given).as_subclass(OnApple))
    assert reconstruction.explained(model, [sae], ids) == fits
    assert fluency.continuation_nll(model, ids, outputs) == scores


@pytest.mark.parametrize(("architecture", "kind"), each(FAST, ["resid_post", "attn_z"]))
def test_a_features_tokens_are_found_with_weights_that_are_fetched_when_needed(architecture, kind):
    from accelerate import cpu_offload

    model = tiny.__wrapped__(architecture)
    sae = random_sae(model, 1, kind)
    scores = token_scores(model, sae, [0, 7])
    cpu_offload(model.net, execution_device=torch.device("cpu"))
    assert model.net.get_output_embeddings().weight.is_meta
    torch.testing.assert_close(token_scores(model, sae, [0, 7]), scores)


def test_an_sae_lives_where_its_layer_lives(folder):
    model = load_model(str(folder / "model"), dtype=torch.float32)
    # As accelerate marks a layer that runs elsewhere; "meta" is a second device that every machine has.
    model.blocks[2]._hf_hook = types.SimpleNamespace(execution_device="meta")
    first, second = load_saes([str(folder / "saes")], model)
    assert (first.layer, first.net.device.type, first.net.W_dec.device.type) == (1, "cpu", "cpu")
    assert (second.layer, second.net.device.type, second.net.W_dec.device.type) == (2, "meta", "meta")
    assert second.read(torch.zeros(2, 32)).device.type == "meta", "what it reads comes to it"
    assert model.device.type == "cpu"
