from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tests.models import tiny_model
from tools.models.trial import Expected, expect, find_difference
from workers.engine.attention.slots import UnsupportedModel
from workers.engine.config import Native
from workers.engine.loading import loader
from workers.engine.loading.loader import prepare_model
from workers.engine.model.fused_llama import FusedLlama
from workers.engine.model.kv_form import KVForm
from workers.engine.model.sequence_rotary import SequenceRotary, isolate_rotary, rotary_modules, rotary_rule
from workers.engine.scheduling.rotary_rule import RotaryRule
from workers.native.ops import native_library

_THETA = {"rope_theta": 1e4}


def longrope(border: int, dim: int = 8) -> dict[str, Any]:
    return {
        "rope_type": "longrope", **_THETA, "factor": 8.0, "original_max_position_embeddings": border,
        "short_factor": [1 + 0.05 * i for i in range(dim // 2)],
        "long_factor": [1 + 1.5 * i for i in range(dim // 2)],
    }  # fmt: skip


_DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, **_THETA}
_LAYERS = {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}
_SLIDING = {"sliding_attention": {"rope_type": "default", **_THETA}}

#: Borders lie between a prompt and the end of its answer, and between two prompts.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3, between prompts": (
        "phi3", {"rope_parameters": longrope(30), "original_max_position_embeddings": 30, "sliding_window": None}
    ),
    "phi3, in an answer": (
        "phi3", {"rope_parameters": longrope(75), "original_max_position_embeddings": 75, "sliding_window": None}
    ),
    "llama, longrope": ("llama", {"rope_parameters": longrope(30)}),
    "qwen3, longrope, fused": (
        "qwen3", {"rope_parameters": longrope(30, 32), "head_dim": 32, "hidden_size": 64, "num_attention_heads": 4}
    ),
    "llama, dynamic": ("llama", {"rope_parameters": _DYNAMIC, "max_position_embeddings": 26}),
    "qwen2, dynamic": ("qwen2", {"rope_parameters": _DYNAMIC, "max_position_embeddings": 26}),
    "llama, linear": (
        "llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, **_THETA}, "max_position_embeddings": 26}
    ),
    "llama, yarn": (
        "llama",
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, **_THETA, "original_max_position_embeddings": 26},
         "max_position_embeddings": 26},
    ),
    "llama, llama3": (
        "llama",
        {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, **_THETA, "low_freq_factor": 1.0,
                             "high_freq_factor": 4.0, "original_max_position_embeddings": 26}},
    ),
    "phi, partial": ("phi", {"partial_rotary_factor": 0.5}),
    "gemma3, longrope by layer": (
        "gemma3_text", {"rope_parameters": {**_SLIDING, "full_attention": longrope(30, 16)}, **_LAYERS}
    ),
    "gemma3, dynamic by layer": (
        "gemma3_text",
        {"rope_parameters": {**_SLIDING, "full_attention": _DYNAMIC}, **_LAYERS, "max_position_embeddings": 26},
    ),
}  # fmt: skip


def model_of(name: str) -> PreTrainedModel:
    model_type, fields = MODELS[name]
    return tiny_model(model_type, **copy.deepcopy(fields))


@cache
def expected_of(name: str) -> list[Expected]:
    """`generate` leaves traces in a dynamic model, so each prompt gets a new one."""
    return [one for length in (3, 20, 70) for one in expect(model_of(name), [length])]


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_those_of_generate_beside_any_neighbour(name: str) -> None:
    model = model_of(name)
    prepare_model(model)
    assert find_difference(model, expected_of(name)) is None


@pytest.mark.skipif(native_library() is None, reason="no C compiler here")
def test_the_fused_decoder_takes_the_same_positions() -> None:
    model = model_of("qwen3, longrope, fused")
    prepare_model(model)
    assert isinstance(model.base_model, FusedLlama)
    assert len(rotary_modules(model)) == 1


@pytest.mark.parametrize(("native", "form"), [("off", None), ("off", "pages")])
@pytest.mark.parametrize("name", ["phi3, in an answer", "llama, dynamic", "gemma3, longrope by layer"])
def test_so_they_are_without_native_operations_and_on_pages(
    name: str, native: Native, form: KVForm | None
) -> None:
    model = model_of(name)
    prepare_model(model, native=native, kv_form=form)
    assert find_difference(model, expected_of(name)) is None


@pytest.mark.parametrize("name", ["phi3, between prompts", "llama, dynamic", "gemma3, longrope by layer"])
def test_a_model_whose_positions_depend_on_neighbours_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "isolate_rotary", lambda _model: None)
    with pytest.raises(
        UnsupportedModel, match="RotaryEmbedding rotates a sequence's positions by the length of its"
    ):
        prepare_model(model_of(name))


def test_a_model_with_fixed_frequencies_is_left_alone() -> None:
    for name in ("llama, yarn", "llama, llama3", "phi, partial"):
        model = model_of(name)
        isolate_rotary(model)
        assert rotary_rule(model) is None
        assert not any(isinstance(module, SequenceRotary) for module in model.modules())


def test_rule_is_read_from_the_model() -> None:
    expected = {
        "phi3, in an answer": RotaryRule(75, recomputes=True, is_graded=False),
        "llama, longrope": RotaryRule(30, recomputes=False, is_graded=False),
        "gemma3, dynamic by layer": RotaryRule(26, recomputes=False, is_graded=True),
    }
    for name, rule in expected.items():
        model = model_of(name)
        isolate_rotary(model)
        assert rotary_rule(model) == rule


def test_several_positions_for_each_token_are_refused() -> None:
    model = model_of("llama, dynamic")
    isolate_rotary(model)
    (rotary,) = (module for module in model.modules() if isinstance(module, SequenceRotary))
    with pytest.raises(UnsupportedModel, match="several positions"):
        rotary(torch.zeros(1, 4, 8), torch.arange(12).view(3, 1, 4))
