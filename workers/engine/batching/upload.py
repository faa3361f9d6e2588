"""Upload: copies lists of integers to a device."""

from __future__ import annotations

from itertools import chain

import torch


def upload(parts: list[list[int]], dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return each list as a tensor, with one copy that is asynchronous on CUDA."""
    joined = torch.tensor(list(chain.from_iterable(parts)), dtype=dtype, pin_memory=device.type == "cuda")
    return torch.split(joined.to(device, non_blocking=True), [len(part) for part in parts])
