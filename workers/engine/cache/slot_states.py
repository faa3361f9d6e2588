"""SlotStates: the keys or the values of one shelf in one layer."""

from __future__ import annotations

import torch

from workers.native.memory import HugeZeros, can_overcommit


class SlotStates:
    """A tensor [slots, kv heads, length, head dim], initially zero. The number of slots may change.

    On a CPU it reserves address space for the maximum number of slots, if that is known. Pages that were
    never written take no memory, and more slots can be added without copying the others.
    """

    def __init__(self, length: int, like: torch.Tensor) -> None:
        """Start without slots. `like`, [any, kv heads, any, head dim], defines shape, device and dtype."""
        self.tensor = like.new_empty(0, like.shape[1], length, like.shape[3])
        self._memory: HugeZeros | None = None

    def resize(self, num_slots: int, max_slots: int | None) -> bool:
        """Change the number of slots and keep the first ones. Returns whether they moved to other memory.

        `max_slots`: reserve address space for this many. None: not known.
        """
        old = self.tensor
        if self._memory is not None and num_slots <= len(self._memory.tensor):
            if num_slots < len(old):
                self._memory.release(num_slots)
            self.tensor = self._memory.tensor[:num_slots]
            return False
        self.tensor = self._zeros(num_slots, max_slots)
        num_kept = min(num_slots, len(old))
        self.tensor[:num_kept] = old[:num_kept]
        return True

    def _zeros(self, num_slots: int, max_slots: int | None) -> torch.Tensor:
        shape, dtype = self.tensor.shape[1:], self.tensor.dtype
        if self.tensor.device.type != "cpu":
            return self.tensor.new_zeros(num_slots, *shape)
        room = max(num_slots, max_slots or 0) if can_overcommit() else num_slots
        self._memory = HugeZeros((room, *shape), dtype)
        return self._memory.tensor[:num_slots]
