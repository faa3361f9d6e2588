"""Allocator: what becomes of memory that a step has freed."""

from __future__ import annotations

import ctypes

#: Parameters of mallopt(3), and its largest block that may come from the heap.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_HEAP_BLOCK = 32 << 20
#: Free memory at the end of the heap that is kept, in bytes.
_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Has glibc keep what is freed for the next step; answers whether there is a glibc that does.

    Else blocks of megabytes, as attention over long prompts and the logits of many rows take them, go back to
    the system each time, and it clears each page anew: attention of 64 tokens to 2048 keys took 7 ms for 1.5.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
