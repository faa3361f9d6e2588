"""Products with weights on a CPU, in bfloat16 and in int8, by product.h."""

from __future__ import annotations

import torch

from workers.native.memory import HugePool
from workers.native.ops import compute_threads, has_int8_products, has_products, loaded_library
from workers.native.recording import perform
from workers.native.scratch import Scratch
from workers.native.structs import Int8ProductArguments, ProductArguments

#: The number of outputs must be a multiple of this.
_PANEL = 32
#: The number of bytes of an output's weights must be a multiple of this.
_DEPTH = 64
#: Zero point of quantized inputs. Fast products, including oneDNN's, take unsigned inputs.
ZERO = 128

#: The memory of all weights.
_weights = HugePool()


def has_product(weight: torch.Tensor) -> bool:
    """Whether Product supports weight [out, in]."""
    return _fits(weight.shape, weight.itemsize) and has_products(weight.device, weight.dtype)


def has_int8_product(weight: torch.Tensor) -> bool:
    """Whether Int8Product supports weight [out, in], with inputs of its dtype."""
    return _fits(weight.shape, 1) and has_int8_products(weight.device, weight.dtype)


def _fits(shape: torch.Size, itemsize: int) -> bool:
    outputs, inputs = shape
    return outputs % _PANEL == 0 and inputs * itemsize % _DEPTH == 0


class Product:
    """x @ weight.T + bias in bfloat16, summed in float32; `weight` is [out, in], `bias` [out]."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.outputs, self.inputs = weight.shape
        self._weight = _in_tiles(weight)
        self._bias = bias
        self._arguments = ProductArguments(
            weight=self._weight.data_ptr(),
            bias=None if bias is None else bias.data_ptr(),
            width=2 * self.inputs,
            outputs=self.outputs,
            threads=compute_threads(),
        )
        self._call = loaded_library().library.multiply_bfloat16

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Write the product of x [rows, in] to y [rows, out]."""
        arguments = self._arguments
        arguments.x, arguments.y = x.data_ptr(), y.data_ptr()
        arguments.rows = x.shape[0]
        perform(self._call, arguments)


class Int8Product:
    """x @ weight.T + bias with x quantized to int8, with a scale per row.

    `rounded` is int8 [out, in], `scales` float32 [out]: weight = rounded * scales. `bias` is float32 [out].
    `memory`: buffers for quantized inputs, shared with products that run before or after this one.
    """

    def __init__(
        self,
        rounded: torch.Tensor,
        scales: torch.Tensor,
        bias: torch.Tensor | None,
        memory: Scratch | None = None,
    ) -> None:
        self.outputs, self.inputs = rounded.shape
        self._memory = memory or Scratch()
        self._weight = _in_tiles(rounded)
        self._scales, self._bias = scales.contiguous(), bias
        self._surplus = rounded.sum(1, dtype=torch.int32).mul_(ZERO)
        self._arguments = Int8ProductArguments(
            weight=self._weight.data_ptr(),
            bias=None if bias is None else bias.data_ptr(),
            scales=self._scales.data_ptr(),
            surplus=self._surplus.data_ptr(),
            width=self.inputs,
            outputs=self.outputs,
            threads=compute_threads(),
        )
        self._call = loaded_library().library.round_and_multiply

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Write the product of x [rows, in] to y [rows, out]. Both are float32 or both bfloat16."""
        num_rows = x.shape[0]
        rounded = self._memory.take("rounded", num_rows, self.inputs, torch.uint8)
        row_scales = self._memory.take("scales", num_rows, 1, torch.float32)
        arguments = self._arguments
        arguments.inputs, arguments.y = x.data_ptr(), y.data_ptr()
        arguments.x, arguments.row_scales = rounded.data_ptr(), row_scales.data_ptr()
        arguments.rows, arguments.is_float32 = num_rows, x.dtype == torch.float32
        perform(self._call, arguments, rounded, row_scales)


def _in_tiles(weight: torch.Tensor) -> torch.Tensor:
    """Rearrange [out, in] to [panel, depth, side, group of inputs, output], as product.h reads it.

    A group is one int32, which torch copies several times as fast as its parts.
    """
    groups = weight.contiguous().view(torch.int32)
    panels = groups.view(len(weight) // _PANEL, 2, 16, groups.shape[1] // 16, 16)
    tiles = panels.permute(0, 3, 1, 4, 2)
    return _weights.empty(tiles.shape, tiles.dtype).copy_(tiles)
