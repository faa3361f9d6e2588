"""SampleRow: how the next token of one sequence is drawn, and its random number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.domain.sampling import SamplingParams
from workers.engine.constraints.token_mask import TokenRule
from workers.engine.sampling.logit_adjustments import LogitAdjustments

#: The minimum temperature. A float32 can divide logits by no less.
MIN_TEMPERATURE = 1e-6


@dataclass(frozen=True, slots=True)
class SampleRow:
    """How the next token of one sequence is drawn."""

    sampling: SamplingParams
    #: Index of the sequence among the choices of its request.
    choice: int
    #: Position of the token in the choice's output.
    position: int
    #: None: the model's logits are not adjusted.
    adjustments: LogitAdjustments | None = None
    #: None: every token may be drawn.
    matcher: TokenRule | None = None

    @property
    def is_truncated(self) -> bool:
        """Whether top_k or top_p restricts the draw to the most likely tokens."""
        return self.sampling.top_k is not None or self.sampling.top_p < 1

    @property
    def is_adjusted(self) -> bool:
        """Whether the logits are adjusted before the draw."""
        return self.adjustments is not None and self.adjustments.is_due(self.position)


def uniforms(rows: Sequence[SampleRow]) -> NDArray[np.float64]:
    """One number in [0, 1) for each row: a hash of (seed, choice, position).

    The three are hashed in a chain, because with a sum of them different jobs would share draws.
    """
    state = np.zeros(len(rows), np.uint64)
    for part in (
        [row.sampling.seed for row in rows],
        [row.choice for row in rows],
        [row.position for row in rows],
    ):
        state = _mix(state + np.array(part, np.uint64))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of splitmix64 (https://prng.di.unimi.it/splitmix64.c)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
