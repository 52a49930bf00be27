"""Linear layers that are quick for the few rows that texts side by side are, on a CPU."""

from __future__ import annotations

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
        product = torch.mm(self.weight, input.reshape(rows, -1).T).T.contiguous()
        product = product.view(*input.shape[:-1], self.out_features)
        return product if self.bias is None else product + self.bias


def quicken(net: nn.Module) -> None:
    """Make every plain linear layer of a float32 model on a CPU quick for a few rows; the weights stay as they are."""
    for module in net.modules():
        if type(module) is nn.Linear:
            module.__class__ = FewRows
