"""Linear layers for a few rows: the numbers of PyTorch's own layer, whatever the shape."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from corrsteer_core.engine.batches import answers
from corrsteer_core.models import few_rows
from corrsteer_core.models.few_rows import MOST, FewRows, Float32Head, use_few_rows, widen_head
from corrsteer_core.models.loading import load_model
from tests.made.models import ARCHITECTURES, FAST, prompts, tiny


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (2,), (1, 2), (2, 2), (1, MOST), (MOST + 1,), (0,), (3, 1, 1)])
def test_the_numbers_are_those_of_the_plain_layer(shape, bias):
    torch.manual_seed(0)
    plain = nn.Linear(48, 20, bias=bias)
    given = torch.randn(*shape, 48)
    expected = plain(given)
    use_few_rows(plain)
    found = plain(given)
    assert type(plain) is FewRows
    assert found.shape == expected.shape
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_input_that_is_not_contiguous_is_read_as_it_is_meant():
    plain = nn.Linear(8, 3)
    given = torch.randn(8, 2).T
    expected = plain(given.contiguous())
    use_few_rows(plain)
    torch.testing.assert_close(plain(given), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "quick"), [(torch.float32, True), (torch.bfloat16, False)])
def test_a_float32_model_on_a_cpu_is_loaded_with_them(tmp_path, dtype, quick):
    made = tiny("llama")
    made.net.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    net = load_model(str(tmp_path), dtype=dtype, device="cpu").net
    kinds = {type(module) for module in net.modules() if isinstance(module, nn.Linear)}
    assert kinds == ({FewRows} if quick else {nn.Linear, Float32Head})


def halved(folder, architecture):
    """A tiny model of an architecture as it is loaded in bfloat16."""
    made = tiny(architecture)
    made.net.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return load_model(str(folder), dtype=torch.bfloat16, device="cpu")


def exact_logits(model, ids):
    """Float64 logits (positions, vocabulary) of a prompt, from the hidden states that the body gives in bfloat16."""
    hidden = model.net.base_model(torch.tensor([ids])).last_hidden_state[0]
    assert hidden.dtype == torch.bfloat16
    logits = hidden.double() @ model.net.get_output_embeddings().weight.double().T
    cap = getattr(model.text_config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


@pytest.mark.parametrize("copied", [few_rows.COPIED, 0])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_body_in_bfloat16_has_logits_in_float32(tmp_path, architecture, copied, monkeypatch):
    monkeypatch.setattr(few_rows, "COPIED", copied)
    monkeypatch.setattr(few_rows, "PART", 100)  # three parts, the last one smaller
    model = halved(tmp_path, architecture)
    head = model.net.get_output_embeddings()
    assert (head.wide is None) == (copied == 0)
    for ids in prompts(model):  # of one position, of a few, of many
        logits = model.net(torch.tensor([ids])).logits[0]
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits.double(), exact_logits(model, ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_in_float32_changes_no_weight_and_no_name_of_the_model(tmp_path, architecture):
    model, plain = halved(tmp_path, architecture), tiny(architecture)
    assert model.fingerprint == plain.fingerprint
    assert set(model.net.state_dict()) == set(plain.net.state_dict())
    assert model.dtype == torch.bfloat16
    assert {weight.dtype for weight in model.net.parameters()} == {torch.bfloat16}
    tied = plain.net.get_output_embeddings().weight is plain.net.get_input_embeddings().weight
    assert (model.net.get_output_embeddings().weight is model.net.get_input_embeddings().weight) == tied


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_generate_chooses_by_the_same_head(tmp_path, architecture):
    """One prompt at a time and one token: the body's work is the same then, and no rounding can part the two."""
    model = halved(tmp_path, architecture)
    for ids in prompts(model):
        made = model.net.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)).long(), max_new_tokens=1, do_sample=False,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        expected = exact_logits(model, ids)[-1]
        torch.testing.assert_close(made.logits[0][0].double(), expected, rtol=1e-5, atol=1e-5)
        assert made.sequences[0, -1] == expected.argmax()


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("architecture", FAST)
def test_a_head_whose_weight_is_fetched_when_needed_is_in_float32_too(tmp_path, architecture, early):
    from accelerate import cpu_offload

    plain = halved(tmp_path / "plain", architecture)
    ids = prompts(plain)
    expected = [plain.net(torch.tensor([prompt])).logits for prompt in ids]
    (texts,) = answers(plain, ids, max_new_tokens=5, batch_size=8)
    net = type(plain.net).from_pretrained(tmp_path / "plain", dtype=torch.bfloat16).eval()
    steps = [widen_head, lambda net: cpu_offload(net, execution_device=torch.device("cpu"))]
    for step in steps if early else reversed(steps):
        step(net)
    head = net.get_output_embeddings()
    assert head.weight.is_meta
    assert (head.wide is not None) == early
    for prompt, logits in zip(ids, expected, strict=True):
        torch.testing.assert_close(net(torch.tensor([prompt])).logits, logits)
    (again,) = answers(replace(plain, net=net), ids, max_new_tokens=5, batch_size=8)
    assert again.tokens == texts.tokens


def test_a_model_in_float32_and_a_head_of_another_kind_are_left_alone():
    class Other(nn.Linear):
        pass

    made = tiny.__wrapped__("llama").net
    widen_head(made)
    assert type(made.lm_head) is nn.Linear
    made.lm_head = Other(32, 8).to(torch.bfloat16)
    widen_head(made)
    assert type(made.lm_head) is Other


def test_a_bias_is_added_in_float32(monkeypatch):
    net = nn.Module()
    net.head = nn.Linear(16, 8).to(torch.bfloat16)
    net.get_output_embeddings = lambda: net.head
    given = torch.randn(3, 2, 16).to(torch.bfloat16)
    expected = given.double() @ net.head.weight.double().T + net.head.bias.double()
    widen_head(net)
    torch.testing.assert_close(net.head(given).double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_weight_is_not_copied(tmp_path):
    halved(tmp_path, "gemma2")
    model = load_model(str(tmp_path), dtype=torch.bfloat16, device="cuda:0")
    head = model.net.get_output_embeddings()
    assert head.wide is None
    hidden = torch.randn(3, 2, 32, device="cuda", dtype=torch.bfloat16)
    found = head(hidden)
    assert found.dtype == torch.float32
    expected = hidden.double() @ head.weight.double().T
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_run_says_which_arithmetic_it_was_made_in(tmp_path):
    assert halved(tmp_path, "llama").arithmetic == "bfloat16, float32 head"
    assert load_model(str(tmp_path), dtype=torch.float32).arithmetic == "float32", "such runs keep their names"


@pytest.mark.parametrize("copied", [few_rows.COPIED, 0])
def test_gradients_go_through_a_float32_head(copied, monkeypatch):
    """Those of the plain product in float32, whether a copy of the weight is kept or it is widened part by part."""
    monkeypatch.setattr(few_rows, "COPIED", copied)
    monkeypatch.setattr(few_rows, "PART", 7)
    torch.manual_seed(0)
    plain = nn.Linear(16, 20, bias=True).to(torch.bfloat16).requires_grad_(False)
    given, pull = torch.randn(2, 3, 16).to(torch.bfloat16), torch.randn(2, 3, 20)
    wanted = given.float().requires_grad_()
    (nn.functional.linear(wanted, plain.weight.float(), plain.bias.float()) * pull).sum().backward()

    class Net(nn.Module):
        def get_output_embeddings(self):
            return plain

    widen_head(Net())
    assert (plain.wide is None) == (copied == 0)
    followed = given.clone().requires_grad_()
    product = plain(followed)
    assert product.dtype == torch.float32
    (product * pull).sum().backward()
    torch.testing.assert_close(followed.grad.float(), wanted.grad, rtol=1e-2, atol=1e-2)
