"""Scratch: memory that one computation after another writes over."""

from __future__ import annotations

import torch


class Scratch:
    """By name and width. What was taken is its claim_token's, also when more has been taken since."""

    def __init__(self, step: int = 1) -> None:
        """It is allocated for multiples of so many rows."""
        self._step = step
        self._known: dict[tuple[str, int], torch.Tensor] = {}

    def take(self, name: str, num_rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
        """[num_rows, width]; zeros where nothing was ever written. A name has one dtype."""
        known = self._known.get((name, width))
        if known is None or len(known) < num_rows:
            known = torch.zeros(-(-num_rows // self._step) * self._step, width, dtype=dtype)
            self._known[name, width] = known
        return known[:num_rows]
