"""What is added to attention so that a query sees some keys and no others."""

from __future__ import annotations

import torch
from torch import Tensor


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Of `visible` (rows, queries, keys): 0 where a query sees a key, the type's lowest number where not, one for all heads.

    (rows, 1, queries, keys), as transformers takes it.
    """
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]
