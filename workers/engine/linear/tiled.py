"""TiledLinear: a linear layer by our own product, in bfloat16 or of 8 bits, where the CPU has it.

A row's result is the same in any company by its making, where oneDNN's in bfloat16 depends on how many rows
there are; and weights are read from memory once (docs/engine-inside.md).
"""

from __future__ import annotations

import torch
from torch import nn

from workers.native.products import Int8Product, Product


class TiledLinear(nn.Module):
    """`x @ weight.T + bias`; output in the dtype of x."""

    def __init__(self, product: Product | Int8Product) -> None:
        super().__init__()
        self.out_features, self.in_features = product.outputs, product.inputs
        #: Writes [rows, out] where it is told.
        self.product = product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, self.in_features).contiguous()
        y = x.new_empty(len(rows), self.out_features)
        self.product(rows, y)
        return y.view(*x.shape[:-1], self.out_features)
