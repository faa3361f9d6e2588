"""TokenMask: the tokens that a sequence may not draw cannot be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.native.draw import MASK_SURPLUS

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


def masks_of(rules: Sequence[TokenRule | None], num_tokens: int) -> Tensor | None:
    """uint8 [R, n]: a bit for each token that a row may draw, the first in the lowest bit of the first byte,
    and some more bits, as `workers.native.draw` takes it. All tokens beyond a rule's vocabulary are
    barred; None where there are no rules."""
    if all(rule is None for rule in rules):
        return None
    masks = np.empty((len(rules), -(-(num_tokens + MASK_SURPLUS) // 8)), np.uint8)
    for mask, rule in zip(masks, rules, strict=True):
        if rule is None:
            mask.fill(0xFF)
            continue
        allowed = rule.allowed()[: len(mask)]
        mask[: len(allowed)] = allowed
        mask[len(allowed) :] = 0
    return torch.from_numpy(masks)


def bar(logits: Tensor, masks: Tensor) -> None:
    """Makes `logits`, float32 [R, V], minus infinity where a token may not be drawn.

    Not where they are no number: of such a row any token is drawn.
    """
    ceilings = np.take(_CEILINGS, masks.numpy(), axis=0).reshape(len(masks), -1)[:, : logits.shape[-1]]
    torch.minimum(logits, torch.from_numpy(ceilings).to(logits.device), out=logits)
