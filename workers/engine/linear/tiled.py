"""TiledLinear: a linear layer computed by our own bfloat16 or int8 product, where the CPU supports it.

A row's result is the same in any batch by design, while oneDNN's bfloat16 results depend on the number of
rows. Weights are read from memory once (docs/engine.md).
"""

from __future__ import annotations

import torch
from torch import nn

from workers.native.products import Int8Product, Product


class TiledLinear(nn.Module):
    """`x @ weight.T + bias`. The output has the dtype of x."""

    def __init__(self, product: Product | Int8Product) -> None:
        super().__init__()
        self.out_features, self.in_features = product.outputs, product.inputs
        #: Writes its result, [rows, out], into a given tensor.
        self.product = product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, self.in_features).contiguous()
        y = x.new_empty(len(rows), self.out_features)
        self.product(rows, y)
        return y.view(*x.shape[:-1], self.out_features)
