"""KVBudget: how many tokens the key-value cache may hold. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

#: The slots of a shelf have one length: this times a power of two, or the maximum sequence length.
FIRST_LENGTH = 512
#: Slot lengths are multiples of this. So are the numbers of keys that attention reads.
LENGTH_STEP = 128


@dataclass(frozen=True, slots=True)
class KVBudget:
    """Counts tokens of allocated memory: a sequence is charged for its whole slot, or for its pages."""

    #: Maximum prompt plus output of one sequence, in tokens.
    max_len: int
    #: None: unlimited.
    max_tokens: int | None = None
    #: Tokens per page of a paged cache. None: the cache uses slots.
    page: int | None = None

    def charge(self, num_tokens: int) -> int:
        """The number of tokens charged for a sequence of `num_tokens`: the length of its slot or pages."""
        if self.page is not None:
            return -(-num_tokens // self.page) * self.page
        longest = -(-self.max_len // LENGTH_STEP) * LENGTH_STEP
        length = FIRST_LENGTH
        while length < num_tokens:
            length *= 2
        return min(length, longest)

    def fits(self, charged: int) -> bool:
        """Whether sequences fit together that are charged `charged` tokens in total."""
        return self.max_tokens is None or charged <= self.max_tokens

    def max_slots(self, length: int) -> int | None:
        """The maximum number of slots of a length. None: unlimited."""
        return None if self.max_tokens is None else self.max_tokens // length

    @property
    def longest(self) -> int:
        """The length of the longest sequence that fits alone. 0: none fits."""
        if self.fits(self.charge(self.max_len)):
            return self.max_len
        fitting = 0
        while self.fits(self.charge(fitting + 1)):
            fitting = self.charge(fitting + 1)
        return fitting
