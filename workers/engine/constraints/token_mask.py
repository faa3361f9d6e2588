"""TokenMask: keeps sequences from drawing tokens that they must not draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.native.draw import MASK_SURPLUS

#: For each byte of a mask, the upper bounds of the logits of its eight tokens. This lookup takes a quarter of
#: the time of `masked_fill_` with a boolean mask.
_CEILINGS = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") > 0, np.inf, -np.inf
).astype(np.float32)


class TokenRule(Protocol):
    """Determines which tokens one sequence may draw. Implemented by Matcher and TokenFilter."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow the tokens so far."""

    def allowed(self) -> NDArray[np.uint8]:
        """A bitmask of the tokens that may come next. Token 0 is the lowest bit of the first byte."""

    def push(self, token_id: int) -> None:
        """Append the drawn token. Raises: RequestError if it must not follow."""


def masks_of(rules: Sequence[TokenRule | None], num_tokens: int) -> Tensor | None:
    """Bitmasks of the tokens that each row may draw, uint8 [R, n]. None if there are no rules.

    Token 0 is the lowest bit of the first byte. There are additional bits, as `workers.native.draw` requires.
    Tokens outside of a rule's vocabulary are barred.
    """
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


def apply_masks(logits: Tensor, masks: Tensor) -> None:
    """Set `logits`, float32 [R, V], to minus infinity for barred tokens, in place.

    NaN stays NaN: a row that contains it may draw any token.
    """
    ceilings = np.take(_CEILINGS, masks.numpy(), axis=0).reshape(len(masks), -1)[:, : logits.shape[-1]]
    torch.minimum(logits, torch.from_numpy(ceilings).to(logits.device), out=logits)
