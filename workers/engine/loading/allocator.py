"""Allocator: makes glibc keep freed memory for the next step."""

from __future__ import annotations

import ctypes

#: Parameters of mallopt(3), and the largest block that glibc may serve from the heap.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_HEAP_BLOCK = 32 << 20
#: Free memory to keep at the end of the heap, in bytes.
_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next step. Returns whether glibc is in use and accepted it.

    By default glibc returns blocks of megabytes to the system, which then clears each page again. Attention
    over long prompts and the logits of many rows use such blocks. For 64 tokens attending to 2048 keys,
    attention took 7 ms instead of 1.5 ms.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
