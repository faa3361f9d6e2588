from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models import tiny_model
from workers.engine.linear.fusion import FusedPart, Packer, pack_linears
from workers.engine.linear.onednn import OneDnnLinear, can_pack

pytestmark = pytest.mark.skipif(
    not can_pack(torch.device("cpu"), torch.float32), reason="torch was built without oneDNN"
)


def test_layers_with_one_input_become_one_product_with_the_same_logits() -> None:
    model = tiny_model("llama")
    input_ids = torch.arange(9)[None]
    with torch.inference_mode():
        before = model(input_ids).logits
        pack_linears(model, lambda: model(input_ids), Packer())
        torch.testing.assert_close(model(input_ids).logits, before)
    attention, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    assert all(isinstance(part, FusedPart) for part in (attention.q_proj, attention.v_proj, mlp.up_proj))
    assert isinstance(mlp.down_proj, OneDnnLinear)
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    assert model.model.embed_tokens.weight.shape == (160, 48)  # tied to the head, kept


def test_biases_survive_fusion() -> None:
    model = tiny_model("qwen2")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    input_ids = torch.arange(9)[None]
    with torch.inference_mode():
        before = model(input_ids).logits
        pack_linears(model, lambda: model(input_ids), Packer())
        torch.testing.assert_close(model(input_ids).logits, before)
