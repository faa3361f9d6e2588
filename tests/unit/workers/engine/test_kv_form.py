from __future__ import annotations

import pytest
import torch

from tests.models import tiny_model
from workers.engine.kv_budget import KVBudget
from workers.engine.kv_cache import SlotCache
from workers.engine.kv_form import KVForm, form_for, make_budget, make_cache, use_cached_attention
from workers.engine.paged_cache import PagedCache


def test_gpus_have_pages_and_cpus_have_slots() -> None:
    assert form_for(torch.device("cuda:1")) == "pages"
    assert form_for(torch.device("cpu")) == "slots"


@pytest.mark.parametrize(("form", "cache", "page"), [("slots", SlotCache, None), ("pages", PagedCache, 256)])
def test_cache_and_budget_are_of_the_form_that_the_model_attends_over(
    form: KVForm, cache: type, page: int | None
) -> None:
    model = tiny_model("llama")
    use_cached_attention(model, form)
    budget = make_budget(model, 500, 2048)
    assert budget == KVBudget(500, 2048, page=page)
    assert isinstance(make_cache(model, budget), cache)
