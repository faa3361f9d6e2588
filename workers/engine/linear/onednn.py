"""OneDnnLinear: a linear layer for a CPU whose results do not depend on the batch.

Weights are packed once into oneDNN's own layout, so a product need not reorder them each time (float32 on
AVX2: 1.2 to 1.8 times as fast as MKL for 32 rows, up to 3 times for 2 to 8 rows). For few or for many rows
the library may use another code path, whose results differ in the last bits (bfloat16 on AVX-512 for one row
and 2048 inputs; on AMX between up to 32 rows and more). Each weight shape is therefore tried in several
forms. The first form that computes every row the same in any batch is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

#: Minimum row counts to try.
_PADS = (1, 2, 4, 8, 16, 32)
#: Row counts to test, below the largest minimum and from there on.
_FEW_ROWS = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 31)
_MANY_ROWS = (32, 40, 64, 128, 160, 208, 256)
#: (rows, step): above this many rows, the row count is padded to a multiple of the step. oneDNN compiles a
#: product for each row count, which takes a millisecond and half a megabyte that is never freed.
_STEPS = ((64, 16), (32, 8))


@dataclass(frozen=True, slots=True)
class ProductForm:
    """How to compute a product so that a row's result is the same in any batch."""

    #: The row count for which oneDNN lays out the weights. It may compute any other.
    layout_rows: int
    #: More rows than this are computed in pieces.
    max_rows: int
    #: Fewer rows than this are padded. Padding happens here and not in the batch, because the LM head
    #: computes a single row when one sequence draws.
    min_rows: int = 1

    def pieces(self, num_rows: int) -> list[int]:
        """Sizes of the products that compute `num_rows` rows."""
        whole, rest = divmod(num_rows, self.max_rows)
        return [self.max_rows] * whole + [rest] * bool(rest)


#: Faster forms first. On AMX, the first one sums up to 32 rows in another order than more rows. The second
#: one does so for many rows with many inputs.
_FORMS = (
    ProductForm(32, 256),
    ProductForm(1, 256),
    ProductForm(1, 128),
    ProductForm(1, 64),
    ProductForm(32, 32),
)


def computed_rows(num_rows: int) -> int:
    """The padded row count for a product of `num_rows` rows, at least."""
    step = next((step for above, step in _STEPS if num_rows > above), 1)
    return -(-num_rows // step) * step


class OneDnnLinear(nn.Module):
    """`x @ weight.T + bias`. Each row is the same in any batch if `find_form` found the form."""

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
        """The product without padding or pieces, for `find_form`."""
        return self._multiply(x, self._bias)

    def residue(self, x: torch.Tensor, subtrahend: torch.Tensor) -> torch.Tensor:
        """The product minus `subtrahend` [out], subtracted before rounding.

        For a row's own rounded result, this is the part that rounding hides.
        """
        return self._multiply(x, -subtrahend)

    def _multiply(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, bias, "none", [], "")
        return y


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN supports this dtype on this device."""
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
    """Find the fastest form in which a product with weight [out, in] is the same for each row in any batch.

    If there is none on this CPU, returns the fastest form. DeterminismTrial will then detect it.
    """
    row = torch.randn(1, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    for form in _FORMS:
        pad = _least_rows(OneDnnLinear(weight, None, form), row, form.max_rows)
        if pad is not None:
            return replace(form, min_rows=pad)
    return _FORMS[0]


def _least_rows(product: OneDnnLinear, row: torch.Tensor, max_rows: int) -> int | None:
    """The minimum row count from which `row` [1, in] gives the same result among copies of itself.

    None if there is no such count. It compares the part that rounding hides: after rounding to 16 bits, only
    one row in ten shows a different order of summation (bfloat16, 1536 inputs to 576 outputs, AVX-512).
    """
    rows = row.expand(max_rows, -1).contiguous()
    rounded = product.multiply(rows)[-1]
    hidden = product.residue(rows, rounded)[-1]

    def is_same(num: int) -> bool:
        return bool((product.residue(rows[:num], rounded) == hidden).all())

    if not all(is_same(num) for num in _MANY_ROWS if num <= max_rows):
        return None
    different = max((num for num in _FEW_ROWS if not is_same(num)), default=0)
    return next(pad for pad in _PADS if pad > different)
