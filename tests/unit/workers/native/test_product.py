from __future__ import annotations

import pytest
import torch
from torch import nn

from workers.engine.linear.fusion import Packer
from workers.engine.linear.onednn import OneDnnLinear, can_pack
from workers.engine.linear.tiled import TiledLinear
from workers.native.products import Product, has_product

BFLOAT16_WEIGHT = torch.zeros(32, 32, dtype=torch.bfloat16)
needs_products = pytest.mark.skipif(not has_product(BFLOAT16_WEIGHT), reason="no AMX, no AVX-512 BF16")
with_each_build = pytest.mark.usefixtures("build")
SHAPES = [(32, 32), (576, 1536), (960, 576), (4096, 768), (2048, 2048)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@needs_products
@with_each_build
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("num_rows", [0, 1, 15, 16, 17, 32, 33, 47, 100])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_product_is_rounded_once(shape: tuple[int, int], num_rows: int, with_bias: bool) -> None:
    weight, x = draw(*shape), draw(num_rows, shape[1], seed=1)
    bias = draw(shape[0], seed=2) if with_bias else None
    y = TiledLinear(Product(weight, bias))(x[None])[0]
    exact = nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert y.shape == exact.shape
    # Half a unit of bfloat16, plus what float32 sums lose where they nearly cancel.
    assert ((y.double() - exact).abs() <= exact.abs() / 256 + 1e-4).all()


@needs_products
@with_each_build
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_row_depends_on_the_batch_size(
    shape: tuple[int, int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    product, x = TiledLinear(Product(draw(*shape), None)), draw(120, shape[1], seed=1)
    whole = product(x)
    for num_rows in (1, 2, 5, 16, 17, 31, 32, 33, 64, 100):
        for start in (0, 3, 20):
            rows = slice(start, start + num_rows)
            assert torch.equal(product(x[rows]), whole[rows])


@needs_products
@with_each_build
def test_nan_stays_in_its_row() -> None:
    x = draw(20, 64)
    x[3, 5], x[17, 0] = float("nan"), float("inf")
    y = TiledLinear(Product(draw(96, 64), None))(x)
    lost = ~y.isfinite().all(1)
    assert lost.nonzero().flatten().tolist() == [3, 17]


@pytest.mark.skipif(not can_pack(torch.device("cpu"), torch.bfloat16), reason="no instructions for bfloat16")
def test_unsupported_shapes_and_native_off_use_onednn() -> None:
    fitting = draw(64, 96)
    assert isinstance(Packer().pack(fitting, None), TiledLinear if has_product(fitting) else OneDnnLinear)
    assert isinstance(Packer("off").pack(fitting, None), OneDnnLinear)
    for weight in (draw(64, 80), draw(72, 64), draw(64, 64).float()):
        assert isinstance(Packer().pack(weight, None), OneDnnLinear)
