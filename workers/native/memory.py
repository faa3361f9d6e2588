"""Memory in huge pages, for what is read from end to end at every step.

A core remembers where a few thousand pages are; each other one costs it a walk through tables, and in a
virtual machine several. Linux backs a range by pages of 2 MiB, where it has them, if it is asked before the
range is touched (https://docs.kernel.org/admin-guide/mm/transhuge.html); elsewhere this is memory like any
other.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from math import prod

import torch

PAGE = 2 << 20
#: What a pool asks of the system at a time.
_POOL_SIZE = 32 * PAGE
#: Tensors in a pool begin at a multiple of it: a line of the caches.
_ALIGNMENT = 64


def huge_zeros(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Zeros in memory of their own, where they fill a page. What is left over lies in small pages."""
    size = prod(shape) * dtype.itemsize
    if size < PAGE:
        return torch.zeros(*shape, dtype=dtype)
    return _map(size).view(dtype).view(*shape)


class HugePool:
    """Tensors that lie one behind the other; a range of them is freed when none is left."""

    def __init__(self) -> None:
        self._free = torch.empty(0, dtype=torch.uint8)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        size = prod(shape) * dtype.itemsize
        taken = -(-size // _ALIGNMENT) * _ALIGNMENT
        if taken > len(self._free):
            self._free = _map(max(taken, _POOL_SIZE))
        tensor, self._free = self._free[:size], self._free[taken:]
        return tensor.view(dtype).view(*shape)


def _map(size: int) -> torch.Tensor:
    """So many zero bytes, from the start of a page on."""
    mapped = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = torch.frombuffer(mapped, dtype=torch.uint8)
    start = -memory.data_ptr() % PAGE
    with suppress(AttributeError, OSError):  # not on Linux, or built without
        mapped.madvise(mmap.MADV_HUGEPAGE, start, size // PAGE * PAGE)
    return memory[start : start + size]
