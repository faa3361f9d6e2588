"""Rotary lengths: for each token of a step, the length by which its rotary position is scaled."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workers.engine.batching.upload import upload
from workers.engine.scheduling.plan import Row


def rotary_lengths(rows: Sequence[Row], device: torch.device) -> torch.Tensor | None:
    """The lengths of all tokens of `rows`, in order: int64 [1, T]. See RotaryRule.

    None if each is its position plus one, as in every decode step and for models to which it does not matter.
    """
    if all(row.sequence.rotary_base <= row.start + 1 for row in rows):
        return None
    lengths = [
        max(row.sequence.rotary_base, position + 1) for row in rows for position in range(row.start, row.end)
    ]
    (uploaded,) = upload([lengths], torch.int64, device)
    return uploaded[None]
