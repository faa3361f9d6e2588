"""Attention over slots, through transformers' AttentionInterface, for any model that uses it.

https://huggingface.co/docs/transformers/attention_interface. No mask function is registered, so transformers
builds no mask. Slots and positions determine which keys a query sees.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

from shared.errors import BatonError
from workers.engine.batching.batch import Group, query_step, round_up
from workers.engine.cache.paged_cache import PagedLayer
from workers.engine.cache.slot_cache import LayerCache, SlotLayer, uses_onednn

#: The name of `slot_attention` in transformers.
INTERFACE = "baton_slots"

#: MKL sums a product over up to this many keys in one go (256 on AVX2, fewer than 192 on AVX-512). oneDNN's
#: order depends on the numbers of keys and queries, except at exactly this many keys, so 16-bit types are
#: padded to a multiple. It divides LENGTH_STEP.
_KEY_BLOCK = 128

#: Arguments of models that do not change the result of a causal decoder.
_WITHOUT_EFFECT = frozenset(
    {"dropout", "is_causal", "position_ids", "use_cache", "output_attentions", "output_hidden_states"}
    | {"output_router_logits", "return_dict", "cache_position", "layer_idx"}
)


class UnsupportedModel(BatonError):
    """Raised when a model needs something that the engine does not support."""


def use_slot_attention(model: PreTrainedModel) -> None:
    """Make the model attend over a SlotCache. It cannot run without one afterwards."""
    AttentionInterface.register(INTERFACE, slot_attention)
    model.set_attn_implementation(INTERFACE)


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: LayerCache,
    value: LayerCache,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **extras: Any,
) -> tuple[torch.Tensor, None]:
    """Attend over the slots of a layer. query is [1, heads, T, head dim]; returns [1, T, heads, value dim].

    `sliding_window` counts the keys that a query sees, including its own. `softcap` is used by Gemma 2, and
    `s_aux` (attention sinks, [heads]) by gpt-oss. Raises: UnsupportedModel for anything else.
    """
    require_attention(module, query, key, value, attention_mask, extras)
    batch = key.read()
    heads, num_tokens, dim = query.shape[1:]
    scaled = query[0] * (dim**-0.5 if scaling is None else scaling)
    parts = [
        _attend(scaled[:, group.tokens], key.shelves[part.shelf], group, sliding_window, softcap, s_aux)
        for part in batch.parts
        for group in part.groups
    ]
    joined = parts[0] if len(parts) == 1 else torch.cat(parts)
    return joined.view(1, num_tokens, heads, -1), None


def require_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: LayerCache | PagedLayer,
    value: LayerCache | PagedLayer,
    mask: torch.Tensor | None,
    extras: dict[str, Any],
) -> None:
    """Check that a module wants plain attention over one of our caches. Raises: UnsupportedModel.

    `extras`: its additional arguments.
    """
    name = type(module).__name__
    unknown = sorted(k for k, v in extras.items() if v is not None and k not in _WITHOUT_EFFECT)
    if unknown or mask is not None:
        raise UnsupportedModel(f"{name} uses attention with {', '.join(unknown) or 'its own mask'}")
    if not (isinstance(key, LayerCache | PagedLayer) and key is value):
        raise UnsupportedModel(f"{name} changes keys or values after they were cached")
    if extras.get("is_causal") is False or key.key_dim != query.shape[3]:
        raise UnsupportedModel(f"{name} is not causal, or caches something other than keys and values")


def _attend(
    query: torch.Tensor,
    layer: SlotLayer,
    group: Group,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Attend one group. query [heads, rows x count, head dim], scaled -> [rows x count, heads, value dim]."""
    num_keys = round_up(group.num_keys, _KEY_BLOCK) if uses_onednn(layer.keys) else group.num_keys
    if group.count == 1:
        num_keys = layer.readable(num_keys)
    keys, values = _read(layer.keys, group, num_keys), _read(layer.values, group, num_keys)
    spread = _spread(query, group, kv_heads=layer.keys.shape[1])
    slots, kv_heads, sharing, count, dim = spread.shape
    scores = torch.bmm(spread.view(slots * kv_heads, sharing * count, dim), keys.transpose(1, 2)).float()
    scores = scores.view(slots, kv_heads, sharing, count, -1)
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    bias = group.bias(window, num_keys)
    (scores if bias.shape[-1] == num_keys else scores[..., -bias.shape[-1] :]).add_(bias)
    weights = _softmax(scores, sinks).to(values.dtype)
    mixed = _mix(weights.view(slots * kv_heads, sharing * count, -1), values)
    return _gather(mixed.view(slots, kv_heads, sharing, count, -1), group, num_heads=query.shape[0])


def _read(cached: torch.Tensor, group: Group, num_keys: int) -> torch.Tensor:
    """The keys or values that a group reads, [slots x kv heads, keys, dim]. A range of slots is a view.

    oneDNN would copy what is not contiguous itself, with transposed keys, which takes several times as long.
    """
    _, kv_heads, length, dim = cached.shape
    if isinstance(group.slots, slice):
        flat = cached.view(-1, length, dim)
        read = flat[group.slots.start * kv_heads : group.slots.stop * kv_heads, :num_keys]
        return read.contiguous() if uses_onednn(cached) else read
    return cached[group.slots, :, :num_keys].view(-1, num_keys, dim)


def _spread(query: torch.Tensor, group: Group, *, kv_heads: int) -> torch.Tensor:
    """Queries by slot and key-value head, zero-padded: [slots, kv heads, sharing heads, count, head dim]."""
    heads, _, dim = query.shape
    sharing = heads // kv_heads
    rows = query.view(kv_heads, sharing, group.num_rows, group.count, dim).permute(2, 0, 1, 3, 4)
    # Pad the tokens to a multiple of the step or, for a single token, the heads that share a key.
    step = query_step(query.device) if group.count == 1 else 1
    shape = (group.num_slots, kv_heads, round_up(sharing, step), group.padded_count, dim)
    if rows.shape == shape:
        return rows.contiguous()
    padded = query.new_zeros(shape)
    inner = padded[:, :, :sharing, : group.count]
    if group.row_slots is None:
        inner.copy_(rows)
    else:
        inner.index_copy_(0, group.row_slots, rows)
    return padded


def _gather(mixed: torch.Tensor, group: Group, *, num_heads: int) -> torch.Tensor:
    """The inverse of `_spread`: [rows x count, heads, value dim]."""
    kv_heads, dim = mixed.shape[1], mixed.shape[4]
    inner = mixed[:, :, : num_heads // kv_heads, : group.count]
    if group.row_slots is not None:
        inner = inner.index_select(0, group.row_slots)
    return inner.permute(0, 3, 1, 2, 4).reshape(group.num_rows * group.count, num_heads, dim)


def _mix(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """weights @ values. On a CPU in blocks of keys, because the order of a long sum depends on its length."""
    num_keys = values.shape[1]
    if values.device.type != "cpu" or num_keys <= _KEY_BLOCK:
        return torch.bmm(weights, values)
    blocks = [slice(start, start + _KEY_BLOCK) for start in range(0, num_keys, _KEY_BLOCK)]
    parts = (torch.bmm(weights[:, :, block], values[:, block]).float() for block in blocks)
    return reduce(torch.Tensor.add_, parts).to(values.dtype)


def _softmax(scores: torch.Tensor, sinks: torch.Tensor | None) -> torch.Tensor:
    if sinks is None:
        return scores.softmax(-1)
    slots, kv_heads, sharing, count, _ = scores.shape
    column = scores.new_zeros(kv_heads, sharing)
    own = sinks.float().view(kv_heads, -1)
    column[:, : own.shape[1]] = own
    column = column[None, :, :, None, None].expand(slots, -1, -1, count, 1)
    return torch.cat([scores, column], -1).softmax(-1)[..., :-1].contiguous()
