"""PagePool: which pages of the cache each slot has. Knows no torch."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

#: Tokens of a page: the least that the FlashAttention that torch ships takes.
PAGE = 256
#: Nobody's page: there goes what is computed for no sequence.
SCRATCH = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that lie side by side on one page."""

    page: int
    start: int
    end: int


class PagePool:
    """Hands out the lowest free page. `max_pages` None: there are as many as are asked for."""

    def __init__(self, max_pages: int | None) -> None:
        self._is_bounded = max_pages is not None
        #: Pages that there is memory for; the scratch page is one.
        self.capacity = 1 + (max_pages or 0)
        # A heap.
        self._free = list(range(SCRATCH + 1, self.capacity))
        self._pages: dict[int, list[int]] = {}

    @property
    def num_used(self) -> int:
        return sum(map(len, self._pages.values()))

    def pages(self, slot: int) -> list[int]:
        """In the order of its tokens."""
        return self._pages.get(slot, [])

    def reach(self, slot: int, num_tokens: int) -> None:
        """Gives the slot the pages of so many tokens. Who schedules knows the budget: there are enough."""
        pages = self._pages.setdefault(slot, [])
        while len(pages) * PAGE < num_tokens:
            if not self._free:
                self._grow()
            pages.append(heapq.heappop(self._free))

    def release(self, slot: int) -> None:
        """A slot may come and go without a page."""
        for page in self._pages.pop(slot, []):
            heapq.heappush(self._free, page)

    def cells(self, slot: int, start: int, end: int) -> list[int]:
        """Where the tokens of a slot lie, counted in tokens from the first of the first page."""
        pages = self._pages[slot]
        return [pages[token // PAGE] * PAGE + token % PAGE for token in range(start, end)]

    def segments(self, slot: int, start: int, end: int) -> Iterator[Segment]:
        """Where they lie, page by page."""
        pages = self._pages[slot]
        while start < end:
            first = start % PAGE
            count = min(PAGE - first, end - start)
            yield Segment(pages[start // PAGE], first, first + count)
            start += count

    def _grow(self) -> None:
        assert not self._is_bounded, "no page is free: more was scheduled than the budget holds"
        self._free = list(range(self.capacity, 2 * self.capacity))
        self.capacity *= 2
