from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from shared.domain.sampling import SamplingParams
from tests.models import tiny_model
from workers.engine.cache import slot_cache as kv_cache
from workers.engine.cache.slot_cache import SlotCache
from workers.engine.config import Quant
from workers.engine.loading.loader import prepare_model
from workers.engine.model import fused_llama
from workers.engine.model.fused_llama import FusedLlama
from workers.engine.model.runner import ModelRunner
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence
from workers.native.ops import has_int8_products, has_products, native_library

pytestmark = pytest.mark.skipif(native_library() is None, reason="no C compiler here")

#: Heads of 32, which the operations support.
HEADS: dict[str, Any] = {
    "hidden_size": 96,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 32,
}


def is_fused(model: PreTrainedModel) -> bool:
    return isinstance(model.base_model, FusedLlama)


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
def test_other_decoders_are_left_unchanged(model_type: str, overrides: dict[str, Any]) -> None:
    model = tiny_model(model_type, **{**HEADS, **overrides})
    prepare_model(model)
    assert not is_fused(model)


def test_nothing_is_fused_when_native_is_off() -> None:
    model = tiny_model("llama", **HEADS)
    prepare_model(model, native="off")
    assert not is_fused(model)


#: Steps of two caches: the cache, its rows (slot, first position, tokens, draft), and slots freed before.
STEPS: list[tuple[int, list[Any], tuple[int, ...]] | tuple[int, list[Any]]] = [
    (0, [(0, 0, 5), (1, 0, 3)]),
    (0, [(0, 5, 1), (1, 3, 1)]),
    (0, [(0, 6, 1), (1, 4, 1)]),
    (1, [(0, 0, 2)]),
    (1, [(0, 2, 1)]),
    # The same slots of the first cache again, then others: more, fewer, and one that has moved.
    (0, [(0, 7, 1), (1, 5, 1)]),
    (0, [(1, 6, 1)]),
    (0, [(0, 8, 1), (1, 7, 1), (2, 0, 1), (3, 0, 1), (4, 0, 1)]),
    (0, [(0, 9, 1), (1, 8, 1), (2, 1, 1), (3, 1, 1), (4, 1, 1)]),
    (0, [(1, 9, 600)]),
    (0, [(0, 10, 1), (1, 609, 1), (2, 2, 1)]),
    (0, [(0, 11, 1), (1, 610, 1), (2, 3, 1)]),
    # With drafts: as many tokens, of other rows; then without, and with others.
    (0, [(0, 12, 3, (7, 8)), (1, 611, 1), (2, 4, 2, (9,))]),
    (0, [(0, 13, 2, (5,)), (1, 612, 3, (6, 4)), (2, 5, 1)]),
    (0, [(0, 14, 1), (1, 613, 1), (2, 6, 1)]),
    (0, [(0, 15, 18, tuple(range(17))), (1, 614, 1), (2, 7, 1)]),
    (0, [(0, 16, 1), (1, 615, 2, (3,)), (2, 8, 3, (2, 1))]),
    # The shelf of the long sequence is released and allocated again.
    (0, [(0, 17, 1), (2, 9, 1)], (1,)),
    (0, [(0, 18, 1), (2, 10, 1), (3, 0, 600)]),
    (0, [(0, 19, 1), (2, 11, 1), (3, 600, 1)]),
    (0, [(0, 20, 1), (2, 12, 1), (3, 601, 1)]),
    (0, [(0, 21, 1), (2, 13, 1), (3, 602, 1)]),
]


def compute_steps(model: PreTrainedModel, max_tokens: int | None) -> list[torch.Tensor]:
    """The logits of each step. `max_tokens`: of the budget, which determines the reserved address space."""
    runners = [ModelRunner(model, KVBudget(1024, max_tokens)) for _ in range(2)]
    token_ids = torch.randint(100, (1024,), generator=torch.Generator().manual_seed(0)).tolist()
    sequence = Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), token_ids, num_prompt_tokens=1024)
    return [
        runners[which].run(Plan(tuple(Row(sequence, *row) for row in rows), sum(freed, ()), wants_all=True))
        for which, rows, *freed in STEPS
    ]


needs_products = pytest.mark.skipif(
    not has_products(torch.device("cpu"), torch.bfloat16), reason="no AMX, no AVX-512 BF16"
)


needs_int8_products = pytest.mark.skipif(
    not has_int8_products(torch.device("cpu"), torch.bfloat16), reason="no AMX, no AVX-512 VNNI"
)
#: Multiples of 64, which all of our products support. One layer, since int8 disturbs more of so small a
#: model.
WIDTHS: dict[str, Any] = {
    "num_hidden_layers": 1,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 1024,
}


@pytest.mark.parametrize(
    "quant", [pytest.param("none", marks=needs_products), pytest.param("int8", marks=needs_int8_products)]
)
@pytest.mark.parametrize("max_tokens", [None, 4096])
@pytest.mark.parametrize("most", [1, 32])
def test_recorded_steps_compute_the_same(
    quant: Quant, most: int, max_tokens: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_cache, "_PATIENCE", 0)
    monkeypatch.setattr(fused_llama, "_MAX_RECORDED", most)
    monkeypatch.setattr(fused_llama, "_MEMORY_STEP", 1)  # grows while steps are recorded
    model = tiny_model("llama", **WIDTHS).bfloat16()
    prepare_model(model, quant)
    assert model.base_model._is_native
    found = compute_steps(model, max_tokens)
    monkeypatch.setattr(model.base_model, "_is_native", False)
    expected = compute_steps(model, max_tokens)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@needs_products
def test_a_recorded_step_does_not_hold_the_cache() -> None:
    model = tiny_model("llama", **HEADS).bfloat16()
    prepare_model(model)
    cache = weakref.WeakSet[SlotCache]()
    original = SlotCache.__init__

    def recorded(self: SlotCache, budget: KVBudget) -> None:
        original(self, budget)
        cache.add(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SlotCache, "__init__", recorded)
        compute_steps(model, None)
    gc.collect()
    assert not cache
