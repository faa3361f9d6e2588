"""SlotStates: the keys, or the values, that the slots of one length hold in one layer."""

from __future__ import annotations

import torch

from workers.native.memory import HugeZeros, addresses_are_free


class SlotStates:
    """[places, kv heads, length, head dim], zeros at first; the number of places may change.

    On a CPU there are addresses for as many as there may ever be, where that is known: one that was never
    written takes no memory, and more of them come without a copy of the others.
    """

    def __init__(self, length: int, like: torch.Tensor) -> None:
        """Without places; `like` [any, kv heads, any, head dim] tells device and type as well."""
        self.tensor = like.new_empty(0, like.shape[1], length, like.shape[3])
        self._memory: HugeZeros | None = None

    def resize(self, num_places: int, most: int | None) -> bool:
        """Keep the first places; there may be `most` of them one day. Answers whether they lie elsewhere."""
        old = self.tensor
        if self._memory is not None and num_places <= len(self._memory.tensor):
            if num_places < len(old):
                self._memory.give_back(num_places)
            self.tensor = self._memory.tensor[:num_places]
            return False
        self.tensor = self._zeros(num_places, most)
        places = min(num_places, len(old))
        self.tensor[:places] = old[:places]
        return True

    def _zeros(self, num_places: int, most: int | None) -> torch.Tensor:
        shape, dtype = self.tensor.shape[1:], self.tensor.dtype
        if self.tensor.device.type != "cpu":
            return self.tensor.new_zeros(num_places, *shape)
        room = max(num_places, most or 0) if addresses_are_free() else num_places
        self._memory = HugeZeros((room, *shape), dtype)
        return self._memory.tensor[:num_places]
