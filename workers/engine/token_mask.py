"""TokenMask: the tokens that a grammar bars cannot be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from workers.engine.matcher import Matcher


class Constrained(NamedTuple):
    """One row of which a grammar bars tokens."""

    row: int
    matcher: Matcher


@contextmanager
def masked(logits: Tensor, constrained: Sequence[Constrained]) -> Iterator[None]:
    """Within, `logits` (float32 [R, V]) are minus infinity where a grammar bars a token; afterwards, what
    they were before. Other rows are not touched.

    The masks are computed here, between the launch of the forward and the first look at its result: a device
    that works beside the CPU computes on meanwhile.
    """
    before = []
    for row, matcher in constrained:
        barred = torch.from_numpy(~matcher.allowed()).to(logits.device, non_blocking=True)
        before.append(logits[row].clone())
        logits[row, : len(barred)].masked_fill_(barred, -torch.inf)
    try:
        yield
    finally:
        for (row, _), values in zip(constrained, before, strict=True):
            logits[row] = values
