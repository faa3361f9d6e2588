from __future__ import annotations

import pytest
import torch

from tests.int8 import is_int8_served, needs_int8
from tests.models import tiny_model
from workers.engine.linear.fusion import FusedPart, pack_linears
from workers.engine.linear.int8 import (
    Int8Linear,
    Int8Packer,
    WrongProduct,
    check_product,
    round_rows,
    round_weight,
)
from workers.engine.linear.onednn import can_pack

pytestmark = pytest.mark.skipif(
    not can_pack(torch.device("cpu"), torch.float32), reason="torch was built without oneDNN"
)


def test_a_weight_is_quantized_with_a_scale_per_output() -> None:
    weight = torch.randn(5000, 24) * torch.logspace(-6, 6, 5000)[:, None]
    rounded, scales = round_weight(weight)
    assert rounded.dtype == torch.int8 and rounded.abs().amax(1).eq(127).all()
    assert ((rounded * scales[:, None] - weight).abs() <= 0.5001 * scales[:, None]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_quantized_with_their_own_scales(dtype: torch.dtype) -> None:
    x = (torch.randn(6, 32) * torch.logspace(-9, 9, 6)[:, None]).to(dtype)
    rounded, scales = round_rows(x)
    assert scales.shape == (6, 1)
    distance = (rounded.double() - 128) * scales.double() - x.double()
    assert (distance.abs() <= 0.501 * scales.double()).all()


@needs_int8
def test_a_row_of_zeros_stays_zero() -> None:
    layer = Int8Packer().pack(torch.randn(8, 16), None)
    assert layer(torch.zeros(1, 16)).eq(0).all()


@needs_int8
@pytest.mark.parametrize("shape", [(0,), (1,), (2, 3), (1, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_product_is_close_to_the_original_layers(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(40, 96), torch.randn(40), torch.randn(*shape, 96).to(dtype)
    y = Int8Packer().pack(weight.to(dtype), bias.to(dtype))(x)
    expected = torch.nn.functional.linear(x.float(), weight, bias)
    assert (y.dtype, y.shape) == (dtype, expected.shape)
    assert (y.float() - expected).norm() <= 0.02 * expected.norm()


@needs_int8
def test_no_row_depends_on_the_batch_size() -> None:
    torch.manual_seed(0)
    layer = Int8Packer().pack(torch.randn(576, 1536).bfloat16(), None)
    x = torch.randn(96, 1536).bfloat16()
    whole = layer(x)
    for num in (1, 2, 7, 33, 95):
        assert torch.equal(layer(x[:num]), whole[:num])


class Saturated(Int8Linear):
    """Like a CPU that adds pairs of products in 16 bits."""

    def multiply(self, rounded: torch.Tensor) -> torch.Tensor:
        return super().multiply(rounded.clamp(max=200))


class Noisy(Int8Linear):
    """Like a library that computes few rows differently."""

    def multiply(self, rounded: torch.Tensor) -> torch.Tensor:
        y = super().multiply(rounded)
        return y if len(y) > 1 else y * (1 + 1e-6)


@needs_int8
@pytest.mark.parametrize("kind", [Saturated, Noisy])
def test_a_wrong_product_is_refused(kind: type[Int8Linear]) -> None:
    rounded, scales = round_weight(torch.randn(64, 128))
    check_product(Int8Linear(rounded, scales, None), rounded, scales, None)
    with pytest.raises(WrongProduct, match="BATON_QUANT=none"):
        check_product(kind(rounded, scales, None), rounded, scales, None)


@needs_int8
def test_all_linear_layers_are_quantized_and_the_embedding_is_not() -> None:
    model = tiny_model("qwen2", tie_word_embeddings=True)
    input_ids = torch.arange(30)[None]
    with torch.inference_mode():
        before = model(input_ids).logits
        pack_linears(model, lambda: model(input_ids), Int8Packer())
        after = model(input_ids).logits
    assert 0 < (after - before).norm() <= 0.1 * before.norm()
    attention, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    assert isinstance(attention.q_proj, FusedPart)
    assert isinstance(mlp.down_proj, Int8Linear) and isinstance(model.lm_head, Int8Linear)
    assert model.model.embed_tokens.weight.dtype == torch.float32


@pytest.mark.skipif(is_int8_served(), reason="this CPU computes int8 products correctly")
def test_a_model_is_refused_where_products_saturate() -> None:
    model = tiny_model("qwen2")
    with pytest.raises(WrongProduct, match="BATON_QUANT=none"):
        pack_linears(model, lambda: model(torch.arange(30)[None]), Int8Packer())
