"""Linear layers: quick for the few rows that texts side by side are, on a CPU; and the head, exact enough to choose by."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

MOST = 5
"""More rows than this are left to PyTorch, which is quicker then."""


class FewRows(nn.Linear):
    """A linear layer that takes two to five rows as columns of the product's other order.

    PyTorch multiplies two rows in about twice the time of one, although the weights are read once; in this order the
    two take no longer than the one (`make bench`, "side by side").
    """

    def forward(self, input: Tensor) -> Tensor:
        rows = input.shape[:-1].numel()
        if not 2 <= rows <= MOST:
            return super().forward(input)
        product = few_rows(self.weight, input.reshape(rows, -1)).view(*input.shape[:-1], self.out_features)
        return product if self.bias is None else product + self.bias


def few_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """The product of rows (n, in) with a weight (out, in): (n, out)."""
    return torch.mm(weight, rows.T).T.contiguous()


def use_few_rows(net: nn.Module) -> None:
    """Make every plain linear layer of a float32 model on a CPU quick for a few rows; the weights stay as they are."""
    for module in net.modules():
        if type(module) is nn.Linear:
            module.__class__ = FewRows


COPIED = 2**28
"""Bytes of a head's weight in float32 up to which a CPU keeps it so; a larger one is widened part by part at every use."""
PART = 2048
"""Tokens of the vocabulary whose weights are widened at a time."""


class Float32Head(nn.Linear):
    """A head (output embedding) that gives float32 logits from hidden states and weights in bfloat16.

    Rounded to bfloat16, logits of 16 to 32 are 0.125 apart: the best two tie often (in 18 of 280 answers on sentiment), and
    the lowest id wins. The products of two bfloat16 numbers are exact in float32, so only the sum is to be kept wide:
    CUDA's product does that without a copy of the weight. A CPU's has no such form, so it takes the weight in float32: kept
    where it is small (the embedded model's: 113 MB), else widened part by part (for Gemma 2 a copy would take 2.4 GB).
    """

    wide: Tensor | None = None
    """The weight in float32, where a copy is kept."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, self.in_features)
        followed = torch.is_grad_enabled() and rows.requires_grad
        product = _Followed.apply(rows, self) if followed else self.product(rows)
        product = product.view(*input.shape[:-1], self.out_features)
        return product if self.bias is None else product + self.bias.float()

    def product(self, rows: Tensor) -> Tensor:
        """Rows (n, in) by the weight: (n, out) in float32, the bias not added."""
        if self.weight.device.type == "cuda":
            return torch.mm(rows, self.weight.T, out_dtype=torch.float32)
        if self.wide is not None and self.wide.device == rows.device:
            if 2 <= len(rows) <= MOST:
                return few_rows(self.wide, rows.float())
            return nn.functional.linear(rows.float(), self.wide)
        parts = self.weight.split(PART)
        return torch.cat([nn.functional.linear(rows.float(), part.float()) for part in parts], -1)

    def back(self, gradients: Tensor) -> Tensor:
        """Gradients of the product (n, out), float32, by the weight: those of its rows (n, in), float32."""
        if self.wide is not None and self.wide.device == gradients.device:
            return gradients @ self.wide
        found = gradients.new_zeros(len(gradients), self.in_features)
        for of_part, part in zip(gradients.split(PART, -1), self.weight.split(PART), strict=True):
            found += of_part @ part.float()
        return found


class _Followed(torch.autograd.Function):
    """A head's product where gradients are wanted: autograd knows none for CUDA's product, and would keep every widened part."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, head: Float32Head) -> Tensor:
        ctx.head, ctx.dtype = head, rows.dtype
        return head.product(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.head.back(gradients[0]).to(ctx.dtype), None


def widen_head(net: Any) -> None:
    """Give a model of less than float32 a head in float32, its own `generate` included. The weight stays as it is.

    A head of another kind (quantized ones bring their own arithmetic) is left alone.
    """
    head: Any = net.get_output_embeddings()
    if type(head) is not nn.Linear or head.weight.dtype not in (torch.bfloat16, torch.float16):
        return
    head.__class__ = Float32Head
    if hasattr(head, "_old_forward"):  # accelerate, which fetches weights, calls the method that it found
        head._old_forward = MethodType(Float32Head.forward, head)  # type: ignore[assignment]
    weight = head.weight
    if weight.device.type == "cpu" and 4 * weight.numel() <= COPIED:
        head.wide = weight.detach().float()
