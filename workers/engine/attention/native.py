"""Attention over slots by `workers.native`, for any model that uses transformers' AttentionInterface."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

from workers.engine.attention.slots import require_attention, slot_attention
from workers.engine.cache.slot_cache import LayerCache
from workers.native.ops import LANES, HeadShape, SlotAttention

#: The name of `native_attention` in transformers.
INTERFACE = "baton_native_slots"


def use_native_attention(model: PreTrainedModel) -> None:
    """Make the model attend over a SlotCache. It cannot run without one afterwards."""
    AttentionInterface.register(INTERFACE, native_attention)
    model.set_attn_implementation(INTERFACE)


def native_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: LayerCache,
    value: LayerCache,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **extras: Any,
) -> tuple[torch.Tensor, None]:
    """Like `slot_attention`, which still computes what the C code lacks: soft caps, sinks and unusual head
    sizes."""
    heads, num_tokens, dim = query.shape[1:]
    if _is_unsupported(key, dim) or any(extras.get(name) is not None for name in ("softcap", "s_aux")):
        options = {"scaling": scaling, "sliding_window": sliding_window, **extras}
        return slot_attention(module, query, key, value, attention_mask, **options)
    require_attention(module, query, key, value, attention_mask, extras)
    shape = HeadShape(heads, key.num_heads, dim)
    attend = SlotAttention(shape, query.dtype, dim**-0.5 if scaling is None else scaling, sliding_window)
    queries = query[0] if query.stride(3) == 1 else query[0].contiguous()
    mixed = query.new_empty(num_tokens, heads, dim)
    for part in key.read().parts:
        layer = key.shelves[part.shelf]
        attend(queries, (layer.keys, layer.values), part.row_table, mixed)
    return mixed[None], None


def _is_unsupported(cache: LayerCache, dim: int) -> bool:
    return not isinstance(cache, LayerCache) or dim % LANES != 0 or cache.value_dim != dim
