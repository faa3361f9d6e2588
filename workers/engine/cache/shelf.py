"""Shelf: the places of one length, and who has them. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a slot's keys and values are."""

    #: The length of the shelf's slots.
    shelf: int
    index: int


class Shelf:
    """Hands out the lowest free place, which keeps those in use together."""

    def __init__(self) -> None:
        #: Place by slot.
        self.places: dict[int, int] = {}
        #: Places that there is memory for.
        self.capacity = 0
        #: Steps since more than a quarter of them was in use.
        self.idle_steps = 0

    @property
    def extent(self) -> int:
        """Places up to the last one in use."""
        return max(self.places.values(), default=-1) + 1

    def take(self, slot: int) -> int:
        assert slot not in self.places
        used = set(self.places.values())
        self.places[slot] = next(index for index in range(len(used) + 1) if index not in used)
        return self.places[slot]

    def leave(self, slot: int) -> None:
        del self.places[slot]

    def compact(self) -> list[tuple[int, int]]:
        """Moves what stands high into the gaps below; answers (from, to) of each move, in order."""
        num, used = len(self.places), set(self.places.values())
        gaps = [index for index in range(num) if index not in used]
        moves = []
        for slot, index in self.places.items():
            if index >= num:
                self.places[slot] = gaps.pop()
                moves.append((index, self.places[slot]))
        return moves
