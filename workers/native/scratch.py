"""Scratch: buffers that computations overwrite one after another."""

from __future__ import annotations

import torch


class Scratch:
    """Buffers by name and width. A buffer stays valid after a larger one has been taken under its name."""

    def __init__(self, step: int = 1) -> None:
        """`step`: allocate multiples of this many rows."""
        self._step = step
        self._known: dict[tuple[str, int], torch.Tensor] = {}

    def take(self, name: str, num_rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
        """Return a buffer [num_rows, width]. It is zero where nothing has been written. A name has one dtype."""
        known = self._known.get((name, width))
        if known is None or len(known) < num_rows:
            known = torch.zeros(-(-num_rows // self._step) * self._step, width, dtype=dtype)
            self._known[name, width] = known
        return known[:num_rows]
