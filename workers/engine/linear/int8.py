"""Int8 linear layers: half the bytes of bfloat16, and exact sums.

They use our own product where the CPU supports it (TiledLinear), else oneDNN's (Int8Linear). Both compute the
same.

Weights are quantized once, with a scale per output; inputs at each call, with a scale per row (vector-wise
quantization, https://arxiv.org/abs/2208.07339, without its outliers). Integer sums are the same in any order.
A row's result therefore does not depend on its batch and needs no padding.
"""

from __future__ import annotations

import torch
from torch import nn

from shared.errors import BatonError
from workers.engine.config import Native
from workers.engine.linear.tiled import TiledLinear
from workers.native.products import ZERO, Int8Product, has_int8_product
from workers.native.scratch import Scratch

_LARGEST = 127
#: Memory for quantized inputs is allocated for multiples of this many rows.
_ROWS_STEP = 64
#: Rows of weights that are quantized at a time.
_BLOCK = 4096
_PROBED_ROWS = (1, 2, 3, 5, 8, 13, 31)
_MANY_ROWS = 32
#: Maximum number of outputs that are compared with a float64 product.
_NUM_PROBED = 256


class WrongProduct(BatonError):
    """Raised when this CPU or its library computes wrong int8 products."""


class Int8Linear(nn.Module):
    """`x @ weight.T + bias` with both factors quantized to int8. The output has the dtype of x."""

    def __init__(self, rounded: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None) -> None:
        """`rounded`: int8 [out, in]; `scales`: float32 [out]; `bias`: float32 [out]. weight = rounded *
        scales."""
        super().__init__()
        self.out_features, self.in_features = rounded.shape
        self._scales = scales
        self._zeros = torch.zeros(self.out_features, dtype=torch.int64)
        self._bias = bias
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() == 0:
            return x.new_empty(*x.shape[:-1], self.out_features)
        rounded, scales = round_rows(x.reshape(-1, self.in_features))
        y = self.multiply(rounded).mul_(scales)
        if self._bias is not None:
            y += self._bias
        return y.to(x.dtype).view(*x.shape[:-1], self.out_features)

    def multiply(self, rounded: torch.Tensor) -> torch.Tensor:
        """Multiply quantized inputs, uint8 [rows, in] with zero point 128, by the weight. Returns float32."""
        y: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded,
            1.0,
            ZERO,
            self._packed,
            self._scales,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return y


class Int8Packer:
    """Makes int8 linear layers, and tests each weight shape before its first use."""

    def __init__(self, native: Native = "auto") -> None:
        self._native = native
        self._memory = Scratch(_ROWS_STEP)
        self._tried: set[tuple[int, ...]] = set()

    def pack(self, weight: torch.Tensor, bias: torch.Tensor | None) -> TiledLinear | Int8Linear:
        """Quantize and pack a weight [out, in]. Raises: WrongProduct."""
        is_native = self._native == "auto" and has_int8_product(weight)
        factors = *round_weight(weight), None if bias is None else bias.float()
        layer = TiledLinear(Int8Product(*factors, self._memory)) if is_native else Int8Linear(*factors)
        if weight.shape not in self._tried:
            check_product(layer, *factors)
            self._tried.add(tuple(weight.shape))
        return layer


def round_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize a weight [out, in] to int8, with a float32 scale per output."""
    scales = _scales(weight)
    rounded = torch.empty(weight.shape, dtype=torch.int8)
    for start in range(0, len(weight), _BLOCK):
        block = slice(start, start + _BLOCK)
        rounded[block] = (weight[block] / scales[block]).round_()
    return rounded, scales.squeeze(-1)


def round_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize [rows, in] to uint8 with zero point 128, with float32 scales [rows, 1]."""
    scales = _scales(x)
    return (x / scales).add_(ZERO + 0.5).to(torch.uint8), scales


def _scales(x: torch.Tensor) -> torch.Tensor:
    largest = x.abs().amax(-1, keepdim=True).float()
    return largest.div_(_LARGEST).clamp_min_(torch.finfo(torch.float32).tiny)


def check_product(
    layer: TiledLinear | Int8Linear, rounded: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None
) -> None:
    """Check a layer's results, and that they are the same for any number of rows. Raises: WrongProduct.

    8-bit instructions may saturate: AVX2, and AVX-512 without VNNI, add pairs in 16 bits. Another int8
    product of torch, `quantized.linear_dynamic`, returned noise on an AVX-512 CPU with VNNI.
    """
    rows = _whole_numbers(_MANY_ROWS, layer.in_features)
    whole = layer.forward(rows)
    some = slice(None, None, -(-layer.out_features // _NUM_PROBED))
    expected = rows.double() @ rounded[some].double().t() * scales[some].double()
    if bias is not None:
        expected += bias[some]
    distance = (whole[:, some].double() - expected).abs().amax()
    is_same = all(torch.equal(layer.forward(rows[:num]), whole[:num]) for num in _PROBED_ROWS)
    if not is_same or not distance <= 1e-6 * expected.abs().amax():
        raise WrongProduct(
            f"this CPU computes wrong int8 products of {layer.in_features} by {layer.out_features}: "
            "set BATON_QUANT=none"
        )


def _whole_numbers(num_rows: int, width: int) -> torch.Tensor:
    """Rows that quantization does not change, because each contains the largest number. The last row has only
    that."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-_LARGEST, _LARGEST + 1, (num_rows, width), generator=generator).float()
    rows[:, 0] = rows[-1] = _LARGEST
    return rows
