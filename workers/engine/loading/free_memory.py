"""Free memory: how much this process may still take, and how many tokens' keys and values that is."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from shared.errors import BatonError
from shared.host.memory import cgroup_free_bytes, mem_info_bytes


class OutOfMemory(BatonError):
    """Raised when a model does not fit into its device's memory."""


#: Share of the free memory that slots may take. The prefix cache takes a quarter of that; the rest is for
#: what a step computes, and for others.
_SHARE = 0.6


def kv_tokens(token_bytes: Mapping[torch.device, int]) -> int:
    """How many tokens, of so many bytes on each device, the memory that is free now has room for."""
    return min(int(free_bytes(device) * _SHARE) // needed for device, needed in token_bytes.items())


def free_bytes(device: torch.device) -> int:
    """On a CPU what the system and each control group around this process leave; on a GPU what nobody has,
    and what torch keeps of what it freed."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    # MemAvailable is the kernel's estimate of what can be allocated without swapping.
    return min([mem_info_bytes("MemAvailable"), *cgroup_free_bytes()])
