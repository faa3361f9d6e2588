from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tests.models import tiny_model
from workers.engine.fused_decoder import FusedDecoder
from workers.engine.loader import prepare_model
from workers.native.ops import native_library

pytestmark = pytest.mark.skipif(native_library() is None, reason="no C compiler here")

#: Heads of 32, as the operations take them.
HEADS: dict[str, Any] = {
    "hidden_size": 96,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 32,
}


def is_fused(model: PreTrainedModel) -> bool:
    return isinstance(model.base_model, FusedDecoder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_decoders_are_fused_exactly_and_pass_the_self_test(model_type: str, dtype: torch.dtype) -> None:
    model = tiny_model(model_type, **HEADS).to(dtype)
    assert prepare_model(model).is_exact
    assert is_fused(model)


@pytest.mark.parametrize(
    ("model_type", "overrides"),
    [
        ("gemma2", {}),
        ("llama", {"head_dim": 16}),
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"intermediate_size": 72}),
    ],
)
def test_others_run_as_they_are(model_type: str, overrides: dict[str, Any]) -> None:
    model = tiny_model(model_type, **{**HEADS, **overrides})
    prepare_model(model)
    assert not is_fused(model)


def test_nothing_is_fused_where_it_is_off() -> None:
    model = tiny_model("llama", **HEADS)
    prepare_model(model, native="off")
    assert not is_fused(model)
