"""Memory in huge pages, for what is read from end to end at every step.

A core remembers where a few thousand pages are; each other one costs it a walk through tables, and in a
virtual machine several. Linux backs a range by pages of 2 MiB, where it has them, if it is asked before the
range is touched (https://docs.kernel.org/admin-guide/mm/transhuge.html); elsewhere this is memory like any
other.
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
#: What a pool asks of the system at a time.
_POOL_SIZE = 32 * PAGE
#: Tensors in a pool begin at a multiple of it: a line of the caches.
_ALIGNMENT = 64


@functools.cache
def addresses_are_free() -> bool:
    """Whether a process may have more of them than memory: not where the system promises no more than it has
    (https://docs.kernel.org/mm/overcommit-accounting.html), nor where they are limited."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return False
    try:
        return _OVERCOMMIT.read_text().strip() != "2"
    except OSError:
        return False


class HugeZeros:
    """A tensor of zeros in memory of its own, which it takes as it is written: rows that are never used cost
    addresses only, where those are free. One that fills no page is like any other."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        size = prod(shape) * dtype.itemsize
        self._mapping: mmap.mmap | None = None
        if size < PAGE:
            self.tensor = torch.zeros(*shape, dtype=dtype)
        else:
            self._mapping, self._start = _map(size)
            self.tensor = _bytes(self._mapping, self._start, size).view(dtype).view(*shape)

    def give_back(self, first: int) -> None:
        """Free the whole pages behind the rows before `first`; what they held is lost."""
        start = -(-self.tensor[:first].nbytes // PAGE) * PAGE
        if self._mapping is not None and start < self.tensor.nbytes:
            with suppress(AttributeError, OSError):
                self._mapping.madvise(mmap.MADV_DONTNEED, self._start + start)


class HugePool:
    """Tensors that lie one behind the other; a range of them is freed when none is left."""

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
    """Memory for so many bytes, zeros, and where in it the first page begins."""
    mapping = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = -_bytes(mapping, 0, 1).data_ptr() % PAGE
    with suppress(AttributeError, OSError):  # not on Linux, or built without
        mapping.madvise(mmap.MADV_HUGEPAGE, start, size // PAGE * PAGE)
    return mapping, start


def _bytes(mapping: mmap.mmap, start: int, size: int) -> torch.Tensor:
    return torch.frombuffer(mapping, dtype=torch.uint8, offset=start, count=size)
