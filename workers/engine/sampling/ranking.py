"""Ranking: the most likely tokens of each row, in an order that depends only on that row."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def best_ids(logits: Tensor, num: int) -> Tensor:
    """The ids of the `num` largest logits of float32 [R, V], in descending order, ties by id: [R, num]."""
    num_tokens = logits.shape[-1]
    if num >= num_tokens:
        return _sorted(_keys(logits, torch.arange(num_tokens, device=logits.device))) & 0xFFFFFFFF
    values, ids = logits.topk(num + 1, -1, sorted=False)
    ranked = _sorted(_keys(values, ids))
    # topk picks arbitrarily among tokens that equal the last one. For such rows all tokens are compared.
    is_torn = (ranked[:, num - 1] >> 32) == (ranked[:, num] >> 32)
    torn, ranked = is_torn.nonzero()[:, 0], ranked[:, :num]
    if len(torn):
        keys = _keys(logits[torn], torch.arange(num_tokens, device=logits.device))
        ranked[torn] = _sorted(keys.topk(num, -1, largest=False, sorted=False).values)
    return ranked & 0xFFFFFFFF


def _keys(logits: Tensor, ids: Tensor) -> Tensor:
    """Integers that increase as logits decrease, then with the id. Zeros of both signs are equal."""
    bits = (logits + 0.0).view(torch.int32)
    falling = ~(bits ^ ((bits >> 31) & 0x7FFFFFFF))
    return (falling.long() << 32) | ids


def _sorted(keys: Tensor) -> Tensor:
    """Sort integers. On a CPU, numpy's sort is eight times as fast as torch's."""
    if keys.device.type == "cpu":
        return torch.from_numpy(np.sort(keys.numpy(), -1))
    return keys.sort(-1).values
