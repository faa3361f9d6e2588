"""OneDnnLinear: a linear layer for a CPU, whose results do not depend on the batch.

Weights lie in oneDNN's own layout: packed once, a product need not bring them into order each time (float32
on AVX2: 1.2 to 1.8 times as fast as MKL for 32 rows, up to 3 times for 2 to 8). Few rows, or many, may take
another path through the library and differ in the last bits from the same row among others (bfloat16, one
row, 2048 inputs on AVX-512; on AMX up to 32 rows against more). Each shape is tried in several forms, and
the first is taken that gives each row the same whatever its company.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

#: Row counts that are tried as the least one of a product.
_PADS = (1, 2, 4, 8, 16, 32)
#: Row counts that are tried, below the largest pad and from there on.
_FEW_ROWS = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 31)
_MANY_ROWS = (32, 40, 64, 128, 160, 208, 256)
#: Above so many rows, a product is computed with a multiple of so many: oneDNN compiles it anew for each
#: number of rows, which takes a millisecond, and half a megabyte for good.
_STEPS = ((64, 16), (32, 8))


@dataclass(frozen=True, slots=True)
class ProductForm:
    """How a product is computed for a row's result to be the same among any number of rows."""

    #: Rows that oneDNN lays the weights out for; it may compute with any number.
    layout_rows: int
    #: More rows are computed in pieces.
    max_rows: int
    #: Fewer are padded: here and not in the batch of tokens, since the head computes one row when one
    #: sequence draws.
    min_rows: int = 1

    def pieces(self, num_rows: int) -> list[int]:
        """Sizes of the products that so many rows are computed by."""
        whole, rest = divmod(num_rows, self.max_rows)
        return [self.max_rows] * whole + [rest] * bool(rest)


#: The faster first. On AMX the first sums 32 rows and fewer in another order than more; the second does so
#: among many rows where there are many inputs.
_FORMS = (
    ProductForm(32, 256),
    ProductForm(1, 256),
    ProductForm(1, 128),
    ProductForm(1, 64),
    ProductForm(32, 32),
)


def computed_rows(num_rows: int) -> int:
    """With how many rows a product of so many is computed, at least."""
    step = next((step for above, step in _STEPS if num_rows > above), 1)
    return -(-num_rows // step) * step


class OneDnnLinear(nn.Module):
    """`x @ weight.T + bias`, each row the same among any number (where `find_form` found the form)."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, form: ProductForm = _FORMS[0]
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._bias = bias
        self._form = form
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), form.layout_rows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        num_rows = x.numel() // self.in_features
        if num_rows <= self._form.max_rows:
            return self._piece(x, num_rows)
        sizes = self._form.pieces(num_rows)
        rows = x.view(num_rows, self.in_features).split_with_sizes(sizes)
        pieces = [self._piece(piece, size) for piece, size in zip(rows, sizes, strict=True)]
        return torch.cat(pieces).view(*x.shape[:-1], self.out_features)

    def _piece(self, x: torch.Tensor, num_rows: int) -> torch.Tensor:
        computed = max(self._form.min_rows, computed_rows(num_rows))
        if num_rows == computed:
            return self.multiply(x)
        padded = x.new_zeros(computed, self.in_features)
        padded[:num_rows] = x.view(num_rows, self.in_features)
        return self.multiply(padded)[:num_rows].view(*x.shape[:-1], self.out_features)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """The product as it is, for `find_form` to compare."""
        return self._multiply(x, self._bias)

    def residue(self, x: torch.Tensor, subtrahend: torch.Tensor) -> torch.Tensor:
        """The product less [out], which is subtracted before the result is rounded: less a row's own result,
        it is what rounding hides."""
        return self._multiply(x, -subtrahend)

    def _multiply(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, bias, "none", [], "")
        return y


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


def find_form(weight: torch.Tensor) -> ProductForm:
    """The form in which each row's product with weight [out, in] is the same among any number of rows, on
    this CPU; the fastest where there is none, and the trial of the whole model will tell."""
    row = torch.randn(1, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    for form in _FORMS:
        pad = _least_rows(OneDnnLinear(weight, None, form), row, form.max_rows)
        if pad is not None:
            return replace(form, min_rows=pad)
    return _FORMS[0]


def _least_rows(product: OneDnnLinear, row: torch.Tensor, max_rows: int) -> int | None:
    """The least padding with which `row` [1, in], among copies of itself, is the same in any place among any
    number; None where none does. Compared is what rounding hides: rounded to 16 bits, only one row in ten
    shows that its sum was taken in another order (bfloat16, 1536 inputs to 576 outputs, AVX-512)."""
    rows = row.expand(max_rows, -1).contiguous()
    rounded = product.multiply(rows)[-1]
    hidden = product.residue(rows, rounded)[-1]

    def is_same(num: int) -> bool:
        return bool((product.residue(rows[:num], rounded) == hidden).all())

    if not all(is_same(num) for num in _MANY_ROWS if num <= max_rows):
        return None
    different = max((num for num in _FEW_ROWS if not is_same(num)), default=0)
    return next(pad for pad in _PADS if pad > different)
