"""Attention over pages, through transformers' AttentionInterface: by torch's FlashAttention or in plain
torch.

https://docs.pytorch.org/docs/stable/nn.attention.varlen.html. The kernel is FlashAttention 2 with a page
table; aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp (`mha_varlen_fwd`) lists its
requirements.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.nn.attention.varlen import AuxRequest, varlen_attn
from transformers import AttentionInterface, PreTrainedModel

from workers.engine.attention.paged_reference import torch_varlen_attn
from workers.engine.attention.slots import require_attention
from workers.engine.cache.paged_cache import PagedLayer

#: The name of `paged_attention` in transformers.
INTERFACE = "baton_pages"

#: What torch's kernel supports.
_FLASH_DTYPES = (torch.bfloat16, torch.float16)
_FLASH_CAPABILITY = (8, 0)
_FLASH_MAX_DIM = 256
_FLASH_DIM_STEP = 8


def use_paged_attention(model: PreTrainedModel) -> None:
    """Make the model attend over a PagedCache. It cannot run without one afterwards."""
    AttentionInterface.register(INTERFACE, paged_attention)
    model.set_attn_implementation(INTERFACE)


def uses_pages(model: PreTrainedModel) -> bool:
    return bool(model.config.get_text_config()._attn_implementation == INTERFACE)


def paged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: PagedLayer,
    value: PagedLayer,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **extras: Any,
) -> tuple[torch.Tensor, None]:
    """Attend over the pages of a layer. query is [1, heads, T, head dim]; returns [1, T, heads, value dim].

    The arguments are those of `slot_attention`. Raises: UnsupportedModel for any other.
    """
    require_attention(module, query, key, value, attention_mask, extras)
    batch = key.read()
    key.is_flash = softcap is None and _is_served(query, key)
    options = {} if key.is_flash else {"softcap": softcap}
    attended, sums = (varlen_attn if key.is_flash else torch_varlen_attn)(
        query[0].transpose(0, 1).contiguous(),
        key.keys,
        key.values,
        batch.query_ends,
        batch.key_ends,
        batch.max_queries,
        batch.max_keys,
        return_aux=AuxRequest(lse=True),
        scale=query.shape[3] ** -0.5 if scaling is None else scaling,
        window_size=_window(sliding_window, batch.max_queries, has_sinks=s_aux is not None),
        enable_gqa=True,
        seqused_k=batch.num_keys,
        block_table=batch.page_table,
        # More than one split is reported to fill only the first row (pytorch/pytorch#194167). It would also
        # make a row's sums depend on its neighbours' lengths.
        num_splits=1,
        **options,
    )
    if s_aux is not None:
        attended = attended * _share_of_keys(sums, s_aux).to(attended.dtype)
    return attended[None], None


def _is_served(query: torch.Tensor, layer: PagedLayer) -> bool:
    """Whether torch's kernel supports these tensors."""
    dim = layer.keys.shape[3]
    return (
        query.is_cuda
        and query.dtype in _FLASH_DTYPES
        and layer.keys.dtype == layer.values.dtype == query.dtype
        and layer.values.shape[3] == dim <= _FLASH_MAX_DIM
        and dim % _FLASH_DIM_STEP == 0
        and _capability(query.device) >= _FLASH_CAPABILITY
    )


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def _window(sliding_window: int | None, max_queries: int, *, has_sinks: bool) -> tuple[int, int]:
    """How many keys a query sees before and after its own; -1: all.

    A row's only query sees all its keys. If the kernel knows this, it treats heads that share keys as queries
    and reads the keys once. It then adds in another order, so this is not done where the sums are needed.
    """
    if sliding_window is not None:
        return sliding_window - 1, 0
    return (-1, -1) if max_queries == 1 and not has_sinks else (-1, 0)


def _share_of_keys(sums: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """The share of a query's attention weight that a sink leaves to the keys: [T, heads, 1].

    `sums`: log-sum-exp of the scores, [heads, T]; `sinks`: [heads].
    """
    return torch.sigmoid(sums - sinks.float()[:, None]).T[..., None]
