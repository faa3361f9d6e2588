"""PagePool: assigns pages of the cache to slots. Does not import torch."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

#: Tokens per page: the minimum of torch's FlashAttention kernel.
PAGE = 256
#: The scratch page, which belongs to no slot. Results of idle rows are written here.
SCRATCH = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Adjacent tokens on one page."""

    page: int
    start: int
    end: int


class PagePool:
    """Assigns the lowest free page first. If `max_pages` is None, it grows as needed."""

    def __init__(self, max_pages: int | None) -> None:
        self._is_bounded = max_pages is not None
        #: Pages for which there is memory, including the scratch page.
        self.capacity = 1 + (max_pages or 0)
        # A heap of free pages.
        self._free = list(range(SCRATCH + 1, self.capacity))
        self._pages: dict[int, list[int]] = {}

    @property
    def num_used(self) -> int:
        return sum(map(len, self._pages.values()))

    def pages(self, slot: int) -> list[int]:
        """The slot's pages, in token order."""
        return self._pages.get(slot, [])

    def reach(self, slot: int, num_tokens: int) -> None:
        """Extend a slot to hold `num_tokens` tokens. The scheduler keeps to the budget, so there are enough
        pages."""
        pages = self._pages.setdefault(slot, [])
        while len(pages) * PAGE < num_tokens:
            if not self._free:
                self._grow()
            pages.append(heapq.heappop(self._free))

    def release(self, slot: int) -> None:
        """Free the pages of a slot. It may have none."""
        for page in self._pages.pop(slot, []):
            heapq.heappush(self._free, page)

    def cells(self, slot: int, start: int, end: int) -> list[int]:
        """The cells of a slot's tokens, counted in tokens from the start of the first page."""
        pages = self._pages[slot]
        return [pages[token // PAGE] * PAGE + token % PAGE for token in range(start, end)]

    def segments(self, slot: int, start: int, end: int) -> Iterator[Segment]:
        """The segments that hold a slot's tokens, page by page."""
        pages = self._pages[slot]
        while start < end:
            first = start % PAGE
            count = min(PAGE - first, end - start)
            yield Segment(pages[start // PAGE], first, first + count)
            start += count

    def _grow(self) -> None:
        assert not self._is_bounded, "no free page: the scheduler exceeded the budget"
        self._free = list(range(self.capacity, 2 * self.capacity))
        self.capacity *= 2
