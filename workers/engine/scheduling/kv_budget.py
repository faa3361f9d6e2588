"""KVBudget: how many tokens' keys and values there is memory for. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass

#: Slots of a shelf have one length: this, or a power of two times it, or the longest that there may be.
FIRST_LENGTH = 512
#: Lengths are multiples of this, and so of the numbers of keys that attention reads.
LENGTH_STEP = 128


@dataclass(frozen=True, slots=True)
class KVBudget:
    """Counts in tokens that memory is allocated for: a sequence is charged its slot, or its pages."""

    #: Prompt and output of one sequence.
    max_len: int
    #: None: unbounded.
    max_tokens: int | None = None
    #: Tokens of a page, where the cache has pages; None: it has slots.
    page: int | None = None

    def charge(self, num_tokens: int) -> int:
        """The length of the slot, or of the pages, that hold so many tokens."""
        if self.page is not None:
            return -(-num_tokens // self.page) * self.page
        longest = -(-self.max_len // LENGTH_STEP) * LENGTH_STEP
        length = FIRST_LENGTH
        while length < num_tokens:
            length *= 2
        return min(length, longest)

    def holds(self, charged: int) -> bool:
        """Whether sequences that are charged so many tokens fit together."""
        return self.max_tokens is None or charged <= self.max_tokens

    def most(self, length: int) -> int | None:
        """Slots of a length that there can be; None: any number."""
        return None if self.max_tokens is None else self.max_tokens // length

    @property
    def longest(self) -> int:
        """The longest sequence that fits when it is alone; 0: none does."""
        if self.holds(self.charge(self.max_len)):
            return self.max_len
        fitting = 0
        while self.holds(self.charge(fitting + 1)):
            fitting = self.charge(fitting + 1)
        return fitting
