"""Variable-length attention over pages in plain torch, with the signature of torch's own kernel.

For devices and models that `torch.nn.attention.varlen.varlen_attn` does not support. It computes the same in
float32, but slower, and also supports soft caps.
"""

from __future__ import annotations

import torch
from torch.nn.attention.varlen import AuxRequest

#: Maximum queries times keys computed at once, padding included. Limits the memory of a step.
_MAX_PAIRS = 1 << 21


def torch_varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,  # noqa: ARG001
    max_q: int,
    max_k: int,
    *,
    return_aux: AuxRequest,  # noqa: ARG001
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,  # noqa: ARG001
    seqused_k: torch.Tensor,
    block_table: torch.Tensor,
    num_splits: int,  # noqa: ARG001
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute what `varlen_attn` computes with `return_aux` set to lse. A row's last query is at its last
    key.

    Returns [T, heads, value dim], and the log-sum-exp of each query's scores, float32 [heads, T], in the
    layout of FlashAttention 2.
    """
    step = max(1, _MAX_PAIRS // (max_q * max_k))
    attended, sums = [], []
    for first in range(0, len(block_table), step):
        rows = slice(first, first + step)
        starts, lengths = cu_seq_q[:-1][rows], cu_seq_q.diff()[rows]
        steps = torch.arange(max_q, device=query.device)
        is_real = steps < lengths[:, None]
        # Padding is computed like the row's last query, and dropped.
        indices = starts[:, None] + torch.minimum(steps, lengths[:, None] - 1)
        positions = indices - starts[:, None] + (seqused_k[rows] - lengths)[:, None]
        mixed, lse = _attend(
            query[indices].float() * scale,
            _gather(key, block_table[rows], max_k),
            _gather(value, block_table[rows], max_k),
            _is_hidden(positions, seqused_k[rows], max_k, window_size),
            softcap,
        )
        attended.append(mixed[is_real])
        sums.append(lse[is_real])
    return torch.cat(attended).to(query.dtype), torch.cat(sums).T


def _gather(cached: torch.Tensor, page_table: torch.Tensor, max_keys: int) -> torch.Tensor:
    """Gather the keys or values of each row: float32 [rows, keys, kv heads, dim]."""
    num_pages = -(-max_keys // cached.shape[1])
    return cached[page_table[:, :num_pages]].flatten(1, 2)[:, :max_keys].float()


def _is_hidden(
    positions: torch.Tensor, num_keys: torch.Tensor, max_keys: int, window_size: tuple[int, int]
) -> torch.Tensor:
    """Mask of the keys that each query must not see: [rows, queries, keys]. A window of -1 is unlimited."""
    keys = torch.arange(max_keys, device=positions.device)
    distance = keys - positions[:, :, None]
    hidden = (keys >= num_keys[:, None, None]).expand(distance.shape)
    left, right = window_size
    if left >= 0:
        hidden = hidden | (distance < -left)
    if right >= 0:
        hidden = hidden | (distance > right)
    return hidden


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    hidden: torch.Tensor,
    softcap: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend per row. query is [rows, queries, heads, dim], already scaled.

    Returns the results and log-sum-exps of `torch_varlen_attn`, by row.
    """
    rows, queries, _, dim = query.shape
    grouped = query.view(rows, queries, keys.shape[2], -1, dim)
    scores = torch.einsum("rqhgd,rkhd->rqhgk", grouped, keys)
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    scores = scores.masked_fill_(hidden[:, :, None, None], float("-inf"))
    mixed = torch.einsum("rqhgk,rkhd->rqhgd", scores.softmax(-1), values)
    return mixed.flatten(2, 3), scores.logsumexp(-1).flatten(2, 3)
