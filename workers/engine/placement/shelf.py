"""Shelf: the memory slots of one length, and which sequence slot uses each. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlotLocation:
    """Where the keys and values of a sequence slot are."""

    #: The length of the shelf's slots, which identifies the shelf.
    shelf: int
    slot_index: int


class Shelf:
    """Assigns the lowest free slot index, which keeps used slots close together."""

    def __init__(self) -> None:
        #: Slot index on this shelf, by sequence slot.
        self.slot_indices: dict[int, int] = {}
        #: Slots for which there is memory.
        self.capacity = 0
        #: Steps since more than a quarter of the slots were in use.
        self.idle_steps = 0

    @property
    def extent(self) -> int:
        """Slots up to the last one in use."""
        return max(self.slot_indices.values(), default=-1) + 1

    def take(self, slot: int) -> int:
        assert slot not in self.slot_indices
        used = set(self.slot_indices.values())
        self.slot_indices[slot] = next(index for index in range(len(used) + 1) if index not in used)
        return self.slot_indices[slot]

    def leave(self, slot: int) -> None:
        del self.slot_indices[slot]

    def compact(self) -> list[tuple[int, int]]:
        """Move the highest slots into the gaps below. Returns (from, to) of each move, in order."""
        num, used = len(self.slot_indices), set(self.slot_indices.values())
        gaps = [index for index in range(num) if index not in used]
        moves = []
        for slot, index in self.slot_indices.items():
            if index >= num:
                self.slot_indices[slot] = gaps.pop()
                moves.append((index, self.slot_indices[slot]))
        return moves
