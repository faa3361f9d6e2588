"""Linear layers for a CPU: weights in oneDNN's own layout, and results that do not depend on the batch.

Packed once, a product need not bring its weights into order each time (float32 on AVX2: 1.2 to 1.8 times
as fast as MKL for 32 rows, up to 3 times for 2 to 8). Layers that read the same input (query, key and
value; gate and up) become one product. A product of few rows may take another path through the library and
differ in the last bits from the same row among others (bfloat16, one row, 2048 inputs on AVX-512). Each
shape is tried, and too few rows are padded: here and not in the batch of tokens, since the head computes one
row when one sequence draws.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workers.engine.int8_linear import Int8Linear, Int8Packer

#: Row counts that are tried as the least one of a product.
_PADS = (1, 2, 4, 8, 16, 32)
#: Row counts whose results must equal those within _MANY_ROWS.
_PROBED_ROWS = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 31, 32)
_MANY_ROWS = 64
#: Above so many rows a product is computed with a multiple of _ROW_STEP: oneDNN compiles it anew for each
#: number of rows, which takes a millisecond, and half a megabyte for good.
_MAX_ODD_ROWS, _ROW_STEP = 32, 8


def computed_rows(num_rows: int) -> int:
    """With how many rows a product of so many is computed, at least."""
    return num_rows if num_rows <= _MAX_ODD_ROWS else -(-num_rows // _ROW_STEP) * _ROW_STEP


class PackedLinear(nn.Module):
    """`x @ weight.T + bias`, row by row the same for any number of rows (where `least_rows` found it so)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.dtype = weight.dtype
        self._bias = bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PADS[-1])
        self.min_rows = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        num_rows = x.numel() // self.in_features
        computed = max(self.min_rows, computed_rows(num_rows))
        if num_rows == computed:
            return self.multiply(x)
        padded = x.new_zeros(computed, self.in_features)
        padded[:num_rows] = x.view(num_rows, self.in_features)
        return self.multiply(padded)[:num_rows].view(*x.shape[:-1], self.out_features)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """The product as it is, for `least_rows` to compare."""
        return self._multiply(x, self._bias)

    def residue(self, x: torch.Tensor, subtrahend: torch.Tensor) -> torch.Tensor:
        """The product less [out], which is subtracted before the result is rounded: less a row's own result,
        it is what rounding hides."""
        return self._multiply(x, -subtrahend)

    def _multiply(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, bias, "none", [], "")
        return y


class FusedLinear:
    """Linear layers that are called one after another with the same input, as one product.

    The first call computes for all; the others find their part as long as the input is the same object.
    """

    __slots__ = ("_input", "_outputs", "_sizes", "product")

    def __init__(self, product: PackedLinear | Int8Linear, sizes: list[int]) -> None:
        #: Computes all of them side by side.
        self.product = product
        self._sizes = sizes
        self._input: torch.Tensor | None = None
        self._outputs: tuple[torch.Tensor, ...] = ()

    @property
    def num_parts(self) -> int:
        return len(self._sizes)

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        if x is not self._input:
            self._input, self._outputs = x, self.product.forward(x).split_with_sizes(self._sizes, dim=-1)
        output = self._outputs[index]
        if index == len(self._sizes) - 1:
            self._input, self._outputs = None, ()
        return output


class FusedPart(nn.Module):
    """One of the layers that became a FusedLinear."""

    def __init__(self, fused: FusedLinear, index: int) -> None:
        super().__init__()
        self.fused = fused
        self._index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fused.part(self._index, x)


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN computes this dtype here."""
    if device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    match dtype:
        case torch.float32:
            return True
        case torch.bfloat16:
            return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        case torch.float16:
            return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
        case _:
            return False


def pack_linears(model: PreTrainedModel, probe: Callable[[], object], int8: Int8Packer | None = None) -> None:
    """Replaces every linear layer of the model; `probe` runs its forward once, to see which share an input.

    The original weights are dropped one layer after the other (a tied embedding keeps its own).
    GPT-2's Conv1D counts as one: it is a linear layer with its weight turned over. With `int8` all are
    rounded to 8 bits.
    """
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    least: dict[tuple[int, int], int] = {}
    groups = _by_input(list(names), probe)
    while groups:
        group = groups.pop()
        weight, bias = _joined(group)
        product = _packed(weight, bias, least) if int8 is None else int8.pack(weight, bias)
        for layer, replacement in zip(group, _replacements(product, group), strict=True):
            model.set_submodule(names.pop(layer), replacement)


def _packed(
    weight: torch.Tensor, bias: torch.Tensor | None, least: dict[tuple[int, int], int]
) -> PackedLinear:
    product = PackedLinear(weight, bias)
    shape = (product.out_features, product.in_features)
    if shape not in least:
        least[shape] = least_rows(product)
    product.min_rows = least[shape]
    return product


def least_rows(product: PackedLinear) -> int:
    """The smallest padding with which a row's result is the same among any number of rows, on this CPU."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(_MANY_ROWS, product.in_features, generator=generator).to(product.dtype)
    whole = product.multiply(rows)
    unequal = [num for num in _PROBED_ROWS if not _is_same_among(product, rows, whole, num)]
    return next((pad for pad in _PADS if all(num < pad for num in unequal)), _PADS[-1])


def _is_same_among(product: PackedLinear, rows: torch.Tensor, whole: torch.Tensor, num: int) -> bool:
    """Whether the first `num` rows alone give what they give in `whole`.

    Rounded to 16 bits, only one row in ten shows that its sum was taken in another order (bfloat16, 1536
    inputs to 576 outputs, AVX-512): the last is compared by what rounding hides, too.
    """
    if not torch.equal(product.multiply(rows[:num]), whole[:num]):
        return False
    if product.dtype == torch.float32:
        return True
    last = whole[num - 1]
    return torch.equal(product.residue(rows[:num], last)[-1], product.residue(rows, last)[num - 1])


def _by_input(layers: list[nn.Linear], probe: Callable[[], object]) -> list[list[nn.Linear]]:
    """The layers, those together that are called once each, one after another, with the same tensor."""
    calls: list[tuple[nn.Linear, torch.Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: calls.append((module, inputs[0])))
        for layer in layers
    ]
    try:
        with torch.inference_mode():
            probe()
    finally:
        for hook in hooks:
            hook.remove()
    called = [layer for layer, _ in calls]
    groups: list[list[nn.Linear]] = []
    last: torch.Tensor | None = None
    for layer, given in calls:
        if called.count(layer) > 1:
            continue
        if given is last:
            groups[-1].append(layer)
        else:
            groups.append([layer])
        last = given
    alone = [[layer] for layer in layers if called.count(layer) != 1]
    return groups + alone


def _joined(group: list[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight [out, in] and bias of the layers, one under the other."""
    weights = [_weight(layer) for layer in group]
    weight = weights[0] if len(group) == 1 else torch.cat(weights)
    if all(layer.bias is None for layer in group):
        return weight, None
    return weight, torch.cat([_bias(layer) for layer in group])


def _weight(layer: nn.Linear) -> torch.Tensor:
    weight: torch.Tensor = layer.weight.data
    return weight.t() if isinstance(layer, Conv1D) else weight


def _bias(layer: nn.Linear) -> torch.Tensor:
    bias: torch.Tensor | None = layer.bias
    return torch.zeros(len(_weight(layer)), dtype=layer.weight.dtype) if bias is None else bias.data


def _replacements(product: PackedLinear | Int8Linear, group: list[nn.Linear]) -> list[nn.Module]:
    if len(group) == 1:
        return [product]
    fused = FusedLinear(product, [len(_weight(layer)) for layer in group])
    return [FusedPart(fused, index) for index in range(len(group))]
