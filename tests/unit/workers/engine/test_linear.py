from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models import tiny_model
from workers.engine.linear import FusedPart, PackedLinear, can_pack, least_rows, pack_linears

pytestmark = pytest.mark.skipif(
    not can_pack(torch.device("cpu"), torch.float32), reason="torch was built without oneDNN"
)


@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 40])
@pytest.mark.parametrize("with_bias", [False, True])
def test_product_is_that_of_the_plain_layer(num_rows: int, with_bias: bool) -> None:
    layer = nn.Linear(24, 40, bias=with_bias)
    with torch.inference_mode():
        packed = PackedLinear(layer.weight.detach(), layer.bias.detach() if with_bias else None)
        packed.min_rows = 2
        x = torch.randn(1, num_rows, 24)
        torch.testing.assert_close(packed(x), layer(x))


def test_row_does_not_depend_on_how_many_there_are() -> None:
    with torch.inference_mode():
        packed = PackedLinear(torch.randn(96, 2048), None)
        packed.min_rows = least_rows(packed)
        x = torch.randn(64, 2048)
        for num_rows in (1, 2, 3, 31):
            assert torch.equal(packed(x[:num_rows]), packed(x)[:num_rows])


@pytest.mark.skipif(not can_pack(torch.device("cpu"), torch.bfloat16), reason="no instructions for bfloat16")
@pytest.mark.parametrize("shape", [(576, 1536), (512, 2048), (2048, 2048), (896, 4864)])
def test_no_bfloat16_row_depends_on_how_many_there_are(shape: tuple[int, int]) -> None:
    """On AVX-512 one row in ten shows it, which a probe of a single row missed."""
    torch.manual_seed(0)
    with torch.inference_mode():
        packed = PackedLinear(torch.randn(shape).bfloat16(), None)
        packed.min_rows = least_rows(packed)
        x = torch.randn(96, shape[1]).bfloat16()
        whole = packed(x)
        for row in range(len(x)):
            assert torch.equal(packed(x[row : row + 1]), whole[row : row + 1])


def test_layers_with_one_input_become_one_product_and_logits_stay() -> None:
    model = tiny_model("llama")
    input_ids = torch.arange(9)[None]
    with torch.inference_mode():
        before = model(input_ids).logits
        pack_linears(model, lambda: model(input_ids))
        torch.testing.assert_close(model(input_ids).logits, before)
    attention, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    assert all(isinstance(part, FusedPart) for part in (attention.q_proj, attention.v_proj, mlp.up_proj))
    assert isinstance(mlp.down_proj, PackedLinear)
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    assert model.model.embed_tokens.weight.shape == (160, 48)  # tied to the head, kept


def test_biases_survive_the_join() -> None:
    model = tiny_model("qwen2")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    input_ids = torch.arange(9)[None]
    with torch.inference_mode():
        before = model(input_ids).logits
        pack_linears(model, lambda: model(input_ids))
        torch.testing.assert_close(model(input_ids).logits, before)


@pytest.mark.parametrize(("num_rows", "computed"), [(31, 31), (32, 32), (33, 40), (40, 40), (61, 64)])
def test_many_rows_are_computed_with_few_numbers_of_rows(
    num_rows: int, computed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, found = PackedLinear(torch.randn(24, 16), None), list[int]()
    multiply = packed.multiply

    def count(x: torch.Tensor) -> torch.Tensor:
        found.append(x.numel() // 16)
        return multiply(x)

    monkeypatch.setattr(packed, "multiply", count)
    x = torch.randn(1, num_rows, 16)
    torch.testing.assert_close(packed(x), multiply(x))
    assert found == [computed]
