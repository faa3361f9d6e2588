"""Memory in huge pages, for tensors that are read from end to end in every step.

A core caches the addresses of a few thousand pages. Any other page costs it a page table walk, and in a
virtual machine several. Linux backs a range with pages of 2 MiB, if available, when asked before the range is
touched (https://docs.kernel.org/admin-guide/mm/transhuge.html). On other systems this is ordinary memory.
"""

from __future__ import annotations

import functools
import mmap
import resource
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from pathlib import Path

import torch

PAGE = 2 << 20
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
#: Minimum size that a pool maps at a time.
_POOL_SIZE = 32 * PAGE
#: Tensors in a pool begin at multiples of this: a cache line.
_ALIGNMENT = 64


@functools.cache
def can_overcommit() -> bool:
    """Whether a process may reserve more addresses than there is memory.

    It may not if the system does not overcommit (https://docs.kernel.org/mm/overcommit-accounting.html), or
    if its address space is limited.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return False
    try:
        return _OVERCOMMIT.read_text(encoding="utf-8").strip() != "2"
    except OSError:
        return False


class HugeZeros:
    """A tensor of zeros in its own memory mapping, which takes memory only where it is written.

    Rows that are never used cost only addresses. A tensor smaller than a page is ordinary memory.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        size = prod(shape) * dtype.itemsize
        self._mapping: mmap.mmap | None = None
        if size < PAGE:
            self.tensor = torch.zeros(*shape, dtype=dtype)
        else:
            self._mapping, self._start = _map(size)
            self.tensor = _bytes(self._mapping, self._start, size).view(dtype).view(*shape)

    def release(self, first: int) -> None:
        """Free the whole pages after row `first`. Their contents are lost."""
        start = -(-self.tensor[:first].nbytes // PAGE) * PAGE
        if self._mapping is not None and start < self.tensor.nbytes:
            with suppress(AttributeError, OSError):
                self._mapping.madvise(mmap.MADV_DONTNEED, self._start + start)


class HugePool:
    """Allocates tensors one after another from large mappings. A mapping is freed with its last tensor."""

    def __init__(self) -> None:
        self._free = torch.empty(0, dtype=torch.uint8)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        size = prod(shape) * dtype.itemsize
        taken = -(-size // _ALIGNMENT) * _ALIGNMENT
        if taken > len(self._free):
            size_mapped = max(taken, _POOL_SIZE)
            self._free = _bytes(*_map(size_mapped), size_mapped)
        tensor, self._free = self._free[:size], self._free[taken:]
        return tensor.view(dtype).view(*shape)


def _map(size: int) -> tuple[mmap.mmap, int]:
    """Map zeroed memory for `size` bytes. Also returns the offset of the first page in it."""
    mapping = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = -_bytes(mapping, 0, 1).data_ptr() % PAGE
    with suppress(AttributeError, OSError):  # not Linux, or a kernel without huge pages
        mapping.madvise(mmap.MADV_HUGEPAGE, start, size // PAGE * PAGE)
    return mapping, start


def _bytes(mapping: mmap.mmap, start: int, size: int) -> torch.Tensor:
    return torch.frombuffer(mapping, dtype=torch.uint8, offset=start, count=size)
