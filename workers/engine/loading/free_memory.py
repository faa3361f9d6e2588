"""Free memory: how much this process may still use, and how many tokens' keys and values fit into it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from shared.errors import BatonError
from shared.host import memory


class OutOfMemory(BatonError):
    """Raised when a model does not fit into its device's memory."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is missing."""
    # Errors of the CPU's allocator can be recognized only by their text.
    texts = ("not enough memory", "can't allocate memory")
    is_allocator = isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    return is_allocator or isinstance(error, MemoryError | torch.OutOfMemoryError)


#: Share of the free memory for slots or pages. The prefix cache uses another quarter of that. The rest is for
#: the computation of a step and for other processes.
_SHARE = 0.6


def kv_tokens(token_bytes: Mapping[torch.device, int], memory_share: float = 1.0) -> int:
    """How many tokens fit into the memory that is free now, given the bytes per token on each device.

    `memory_share`: this process's share of the free memory. The rest is for other workers on the same devices.
    """
    share = _SHARE * memory_share
    return min(int(free_bytes(device) * share) // needed for device, needed in token_bytes.items())


def free_bytes(device: torch.device) -> int:
    """Free bytes on a device.

    On a CPU: what the system and all control groups of this process leave. On a GPU: what is free, plus what
    torch has reserved and does not use.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return memory.free_bytes()
