"""int8 products: exact integer results in any build and any batch."""

from __future__ import annotations

import pytest
import torch

from workers.engine.linear.int8 import Int8Linear, Int8Packer, round_rows, round_weight
from workers.engine.linear.tiled import TiledLinear
from workers.native.products import Int8Product, has_int8_product

pytestmark = pytest.mark.skipif(not has_int8_product(torch.zeros(32, 64)), reason="no AMX, no AVX-512 VNNI")
with_each_build = pytest.mark.usefixtures("build")
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
SHAPES = [(32, 64), (576, 1536), (960, 576), (4096, 768), (2048, 2048)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(
    x: torch.Tensor, rounded: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Computed with float64 sums, which are exact for integers. Each later step is rounded to float32."""
    rows, row_scales = round_rows(x)
    sums = ((rows.double() - 128) @ rounded.double().t()).float()
    y = sums * scales * row_scales
    return (y if bias is None else y + bias).to(x.dtype)


@with_each_build
@both_dtypes
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("num_rows", [0, 1, 4, 7, 16, 17, 33, 100])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_product_is_the_exact_integer_product(
    shape: tuple[int, int], num_rows: int, with_bias: bool, dtype: torch.dtype
) -> None:
    rounded, scales = round_weight(draw(*shape))
    bias = draw(shape[0], seed=2) if with_bias else None
    x = (draw(num_rows, shape[1], seed=1) * torch.logspace(-9, 9, num_rows)[:, None]).to(dtype)
    y = TiledLinear(Int8Product(rounded, scales, bias))(x[None])[0]
    assert y.dtype == dtype
    assert torch.equal(y, exact(x, rounded, scales, bias))


@with_each_build
@both_dtypes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_row_depends_on_the_batch_size(
    shape: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = TiledLinear(Int8Product(*round_weight(draw(*shape)), None))
    x = draw(120, shape[1], seed=1).to(dtype)
    whole = product(x)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    shared = TiledLinear(Int8Product(*round_weight(draw(*shape)), None))
    for num_rows in (1, 2, 5, 16, 17, 31, 32, 33, 64, 100):
        for start in (0, 3, 20):
            rows = slice(start, start + num_rows)
            assert torch.equal(product(x[rows]), whole[rows])
            assert torch.equal(shared(x[rows]), whole[rows])


@with_each_build
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_do_not_saturate(sign: int) -> None:
    weight, x = torch.full((64, 8192), 3.0), torch.full((3, 8192), 5.0 * sign)
    rounded, scales = round_weight(weight)
    assert rounded.eq(127).all()
    y = TiledLinear(Int8Product(rounded, scales, None))(x)
    torch.testing.assert_close(y, torch.full((3, 64), 8192 * 15.0 * sign))


@with_each_build
@both_dtypes
def test_nan_stays_in_its_row_and_zero_stays_zero(dtype: torch.dtype) -> None:
    x = draw(20, 64).to(dtype)
    x[3, 5], x[9], x[17, 0] = float("nan"), 0, float("inf")
    y = TiledLinear(Int8Product(*round_weight(draw(96, 64)), None))(x)
    assert (~y.isfinite()).any(1).nonzero().flatten().tolist() == [3, 17]
    assert y[9].eq(0).all()


@with_each_build
def test_inputs_need_not_be_contiguous() -> None:
    product, x = TiledLinear(Int8Product(*round_weight(draw(96, 64)), None)), draw(5, 128)
    assert torch.equal(product(x[:, ::2]), product(x[:, ::2].contiguous()))


def test_unsupported_shapes_and_native_off_use_onednn() -> None:
    assert isinstance(Int8Packer().pack(draw(64, 128), None), TiledLinear)
    assert isinstance(Int8Packer("off").pack(draw(64, 128), None), Int8Linear)
    for weight in (draw(64, 96), draw(72, 64)):
        assert isinstance(Int8Packer().pack(weight, None), Int8Linear)


@both_dtypes
def test_our_product_equals_onednns(dtype: torch.dtype) -> None:
    weight, bias = draw(96, 192).to(dtype), draw(96, seed=1).to(dtype)
    x = draw(40, 192, seed=2).to(dtype)
    assert torch.equal(Int8Packer().pack(weight, bias)(x), Int8Packer("off").pack(weight, bias)(x))
