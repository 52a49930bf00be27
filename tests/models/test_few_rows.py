"""Linear layers for a few rows: the numbers of PyTorch's own layer, whatever the shape."""

import pytest
import torch
from torch import nn

from corrsteer_core.models.few_rows import MOST, FewRows, quicken
from corrsteer_core.models.loading import load_model
from tests.made.models import tiny


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (2,), (1, 2), (2, 2), (1, MOST), (MOST + 1,), (0,), (3, 1, 1)])
def test_the_numbers_are_those_of_the_plain_layer(shape, bias):
    torch.manual_seed(0)
    plain = nn.Linear(48, 20, bias=bias)
    given = torch.randn(*shape, 48)
    expected = plain(given)
    quicken(plain)
    found = plain(given)
    assert type(plain) is FewRows
    assert found.shape == expected.shape
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_input_that_is_not_contiguous_is_read_as_it_is_meant():
    plain = nn.Linear(8, 3)
    given = torch.randn(8, 2).T
    expected = plain(given.contiguous())
    quicken(plain)
    torch.testing.assert_close(plain(given), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "quick"), [(torch.float32, True), (torch.bfloat16, False)])
def test_a_float32_model_on_a_cpu_is_loaded_with_them(tmp_path, dtype, quick):
    made = tiny("llama")
    made.net.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    net = load_model(str(tmp_path), dtype=dtype, device="cpu").net
    kinds = {type(module) for module in net.modules() if isinstance(module, nn.Linear)}
    assert kinds == ({FewRows} if quick else {nn.Linear})
