from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from tests.models import tiny_model
from workers.engine.attention.native import use_native_attention
from workers.engine.attention.paged import use_paged_attention
from workers.engine.attention.slots import use_slot_attention
from workers.engine.cache.paged_cache import PagedCache
from workers.engine.cache.slot_cache import SlotCache
from workers.engine.model.kv_form import form_for, make_budget, make_cache
from workers.engine.scheduling.kv_budget import KVBudget


def test_gpus_have_pages_and_cpus_have_slots() -> None:
    assert form_for(torch.device("cuda:1")) == "pages"
    assert form_for(torch.device("cpu")) == "slots"


@pytest.mark.parametrize(
    ("use", "cache", "page"),
    [
        (use_slot_attention, SlotCache, None),
        (use_native_attention, SlotCache, None),
        (use_paged_attention, PagedCache, 256),
    ],
)
def test_cache_and_budget_match_the_models_attention(
    use: Callable[[PreTrainedModel], None], cache: type, page: int | None
) -> None:
    model = tiny_model("llama")
    use(model)
    budget = make_budget(model, 500, 2048)
    assert budget == KVBudget(500, 2048, page=page)
    assert isinstance(make_cache(model, budget), cache)
