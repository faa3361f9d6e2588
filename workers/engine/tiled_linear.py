"""TiledLinear: a linear layer in bfloat16 for a CPU with AMX or AVX-512 BF16, by our own product.

A row's result is the same in any company by its making, where oneDNN's depends on how many rows there are;
and weights are read from memory once (docs/engine.md).
"""

from __future__ import annotations

import torch
from torch import nn

from workers.native.ops import Product


class TiledLinear(nn.Module):
    """`x @ weight.T + bias`; weight [out, in]."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        #: Writes [rows, out] where it is told.
        self.product = Product(weight, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, self.in_features)
        y = x.new_empty(len(rows), self.out_features)
        self.product(rows, y)
        return y.view(*x.shape[:-1], self.out_features)
