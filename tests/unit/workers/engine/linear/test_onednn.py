from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from workers.engine.linear.onednn import OneDnnLinear, ProductForm, can_pack, find_form

pytestmark = pytest.mark.skipif(
    not can_pack(torch.device("cpu"), torch.float32), reason="torch was built without oneDNN"
)
needs_bfloat16 = pytest.mark.skipif(
    not can_pack(torch.device("cpu"), torch.bfloat16), reason="no instructions for bfloat16"
)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 8, 9, 16, 40])
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_product_equals_the_original_layers(num_rows: int, with_bias: bool) -> None:
    layer = nn.Linear(24, 40, bias=with_bias)
    with torch.inference_mode():
        bias = layer.bias.detach() if with_bias else None
        packed = OneDnnLinear(layer.weight.detach(), bias, ProductForm(8, max_rows=8, min_rows=2))
        x = torch.randn(1, num_rows, 24)
        torch.testing.assert_close(packed(x), layer(x))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=needs_bfloat16)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize(
    "shape", [(576, 1536), (512, 2048), (2048, 2048), (896, 4864), (3072, 576), (128, 256)]
)
def test_no_row_depends_on_the_batch_size(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Including shapes where a single row is summed differently (AVX-512), and where many are (AMX)."""
    torch.manual_seed(0)
    with torch.inference_mode():
        weight = torch.randn(shape).to(dtype)
        packed = OneDnnLinear(weight, None, find_form(weight))
        x = torch.randn(300, shape[1]).to(dtype)
        whole = packed(x)
        for num_rows in (1, 2, 3, 5, 8, 17, 31, 32, 33, 64, 100, 128, 250):
            for start in (0, 50):
                rows = slice(start, start + num_rows)
                assert torch.equal(packed(x[rows]), whole[rows])


@pytest.mark.parametrize(
    ("num_rows", "computed"),
    [(31, [31]), (32, [32]), (33, [40]), (40, [40]), (61, [64]), (65, [80]), (300, [256, 48])],
)
def test_many_row_counts_use_few_padded_ones(
    num_rows: int, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, found = OneDnnLinear(torch.randn(24, 16), None), list[int]()
    multiply = packed.multiply

    def count(x: torch.Tensor) -> torch.Tensor:
        found.append(x.numel() // 16)
        return multiply(x)

    monkeypatch.setattr(packed, "multiply", count)
    x = torch.randn(1, num_rows, 16)
    torch.testing.assert_close(packed(x), multiply(x))
    assert found == computed


def differ_with(rows: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make products with these row counts differ from others."""

    def multiply(self: OneDnnLinear, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        y = x.new_full((x.shape[0], self.out_features), float(x.shape[0] in rows))
        return y if bias is None else y + bias

    monkeypatch.setattr(OneDnnLinear, "_multiply", multiply)


@pytest.mark.parametrize(
    ("rows", "form"),
    [
        (range(0), ProductForm(32, 256, 1)),
        (range(2), ProductForm(32, 256, 2)),
        (range(4), ProductForm(32, 256, 4)),
        (range(10), ProductForm(32, 256, 16)),
        (range(65, 300), ProductForm(1, 64, 1)),
        (range(33, 300), ProductForm(32, 32, 1)),
    ],
)
def test_the_first_form_with_identical_rows_is_chosen(
    rows: range, form: ProductForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    differ_with(rows, monkeypatch)
    assert find_form(torch.randn(24, 16)) == form


def test_without_such_a_form_the_fastest_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def multiply(_: OneDnnLinear, x: torch.Tensor, __: torch.Tensor | None) -> torch.Tensor:
        return torch.arange(float(x.shape[0]))[:, None].expand(-1, 24)

    monkeypatch.setattr(OneDnnLinear, "_multiply", multiply)
    assert find_form(torch.randn(24, 16)) == ProductForm(32, 256)
