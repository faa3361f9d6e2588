"""TokenMask: the tokens that a sequence may not draw cannot be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: For each byte of a mask, what the logits of its eight tokens may be at most. A look-up takes a quarter of
#: the time that a fill by a mask of booleans takes.
_CEILINGS = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") > 0, np.inf, -np.inf
).astype(np.float32)


class TokenRule(Protocol):
    """Which tokens one sequence may draw: a Matcher, or a TokenFilter."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow the tokens taken."""

    def allowed(self) -> NDArray[np.uint8]:
        """A bit for each token that may be next, the first in the lowest bit of the first byte."""

    def push(self, token_id: int) -> None:
        """Take the token that was drawn. Raises RequestError where it may not follow."""


class Constrained(NamedTuple):
    """One row of which some tokens are barred."""

    row: int
    matcher: TokenRule


@contextmanager
def masked(logits: Tensor, constrained: Sequence[Constrained]) -> Iterator[None]:
    """Within, `logits` (float32 [R, V]) are minus infinity where a token may not be drawn; afterwards, what
    they were before. Other rows are not touched.

    The masks are computed here, between the launch of the forward and the first look at its result: a device
    that works beside the CPU computes on meanwhile.
    """
    if not constrained:
        yield
        return
    ceilings = torch.from_numpy(_ceilings(constrained, logits.shape[-1])).to(logits.device)
    rows = torch.tensor([each.row for each in constrained], device=logits.device)
    before = logits.index_select(0, rows)
    logits.index_copy_(0, rows, torch.minimum(before, ceilings))
    try:
        yield
    finally:
        logits.index_copy_(0, rows, before)


def _ceilings(constrained: Sequence[Constrained], num_tokens: int) -> NDArray[np.float32]:
    """[R, V]; tokens beyond a rule's vocabulary are barred."""
    masks = np.zeros((len(constrained), -(-num_tokens // 8)), np.uint8)
    for mask, (_, matcher) in zip(masks, constrained, strict=True):
        allowed = matcher.allowed()[: len(mask)]
        mask[: len(allowed)] = allowed
    return np.take(_CEILINGS, masks, axis=0).reshape(len(constrained), -1)[:, :num_tokens]
