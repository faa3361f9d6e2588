"""Selects the form of the key-value cache: slots on a CPU, pages on a GPU."""

from __future__ import annotations

from typing import Literal

import torch
from transformers import PreTrainedModel

from workers.engine.attention.paged import uses_pages
from workers.engine.cache.paged_cache import PagedCache
from workers.engine.cache.slot_cache import SlotCache
from workers.engine.placement.page_pool import PAGE
from workers.engine.scheduling.kv_budget import KVBudget

KVForm = Literal["slots", "pages"]


def form_for(device: torch.device) -> KVForm:
    return "pages" if device.type == "cuda" else "slots"


def make_budget(model: PreTrainedModel, max_len: int, max_tokens: int | None = None) -> KVBudget:
    """A budget for the cache form that the model uses."""
    return KVBudget(max_len, max_tokens, page=PAGE if uses_pages(model) else None)


def make_cache(model: PreTrainedModel, budget: KVBudget) -> SlotCache | PagedCache:
    """A cache of the form that the model uses. `budget` comes from `make_budget`."""
    return PagedCache(budget) if uses_pages(model) else SlotCache(budget)
