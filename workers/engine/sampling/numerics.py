"""Numerics: recognizes logits from which no token can be drawn.

A row of logits is unusable if it contains a NaN, if its largest logit is infinite, or if every logit is minus infinity
although no token is barred. The largest logit shows all of it, because `max` returns NaN for a row with a NaN, and the
draw needs it anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.errors import ErrorInfo, RequestError
from workers.engine.sampling.row import SampleRow


class NumericalError(RequestError):
    """Raised when the model's logits are NaN or infinite, as after an overflow of float16 or with damaged weights."""

    def __init__(self) -> None:
        message = (
            "The model computed logits that are NaN or infinite, so no token can be drawn. Its weights may be damaged, "
            "or too large for the worker's data type (BATON_DTYPE)."
        )
        super().__init__(ErrorInfo(message, code="numerical_error"))


def are_usable(largest: Tensor, rows: Sequence[SampleRow]) -> Tensor:
    """Whether tokens can be drawn from rows with these largest logits: bool [R]. Barred tokens have been masked."""
    if all(row.matcher is None for row in rows):
        return largest.isfinite()
    is_masked = torch.tensor([row.matcher is not None for row in rows], device=largest.device)
    return (largest < torch.inf) & (is_masked | (largest > -torch.inf))
