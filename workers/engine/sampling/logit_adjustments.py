"""LogitAdjustments: logit bias, penalties and barred stop tokens, applied before a token is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.domain.sampling import SamplingParams

_NUM_FIELDS = 4
#: Rows of the table: bias, repetition factor, amount to subtract, and 1 for tokens barred before
#: `min_tokens`.
_BIAS, _FACTOR, _DEDUCTION, _BARRED = range(_NUM_FIELDS)
#: Just below the largest float32.
_MAX = 3e38
_NEUTRAL = np.array([[0.0], [1.0], [0.0], [0.0]], np.float32)


class LogitAdjustments:
    """Logit bias, barred stop tokens and penalties of one sequence, stored only for the affected ids.

    The state depends only on the parameters and the tokens pushed, so a replay restores it. A token costs
    O(1).
    """

    def __init__(self, sampling: SamplingParams, stop_token_ids: Iterable[int]) -> None:
        self._repetition = sampling.repetition_penalty
        self._presence = sampling.presence_penalty
        self._frequency = sampling.frequency_penalty
        self._min_tokens = sampling.min_tokens
        self._index: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._ids = np.zeros(64, np.int64)
        self._columns = np.tile(_NEUTRAL, 64)
        if sampling.min_tokens:
            self._set(_BARRED, stop_token_ids, 1.0)
        for token_id, bias in sampling.logit_bias:
            self._set(_BIAS, [token_id], bias)
        self._is_biased = bool(sampling.logit_bias)

    @classmethod
    def of(
        cls,
        sampling: SamplingParams,
        stop_token_ids: Iterable[int],
        prompt: Sequence[int],
        output: Sequence[int],
    ) -> LogitAdjustments | None:
        """Return the adjustments for a sequence with these tokens. None if they would never change a logit."""
        adjustments = cls(sampling, stop_token_ids)
        if not (adjustments._index or adjustments._has_penalties):
            return None
        adjustments._read(prompt)
        for token_id in output:
            adjustments.push(token_id)
        return adjustments

    def push(self, token_id: int) -> None:
        """Append the next token of the output."""
        if not self._has_penalties:
            return
        count = self._counts[token_id] = self._counts.get(token_id, 0) + 1
        self._set(_FACTOR, [token_id], self._repetition)
        self._set(_DEDUCTION, [token_id], self._frequency * count + self._presence)

    def is_due(self, position: int) -> bool:
        """Whether the logits of the token at this position are adjusted."""
        return self._is_biased or self._has_penalties or position < self._min_tokens

    def table(self, position: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The affected ids [n], and their columns [4, n]."""
        num = len(self._index)
        columns = self._columns[:, :num]
        if position >= self._min_tokens > 0:
            columns = columns.copy()
            columns[_BARRED] = 0
        return self._ids[:num], columns

    @property
    def _has_penalties(self) -> bool:
        return self._repetition != 1 or self._presence != 0 or self._frequency != 0

    def _read(self, prompt: Sequence[int]) -> None:
        if self._repetition != 1:
            self._set(_FACTOR, dict.fromkeys(prompt), self._repetition)

    def _set(self, field: int, token_ids: Iterable[int], value: float) -> None:
        columns = [self._column(token_id) for token_id in token_ids]
        self._columns[field, columns] = max(-_MAX, min(_MAX, value))

    def _column(self, token_id: int) -> int:
        """The column of a token, which is added if needed."""
        column = self._index.setdefault(token_id, len(self._index))
        if column == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._columns = np.concatenate([self._columns, np.tile(_NEUTRAL, column)], axis=1)
        self._ids[column] = token_id
        return column


class Due(NamedTuple):
    """A row whose logits must be adjusted."""

    row: int
    position: int
    adjustments: LogitAdjustments


def adjust(logits: Tensor, due: Sequence[Due]) -> None:
    """Adjust `logits`, float32 [R, V], in place, and only at the affected ids.

    The order is vLLM's: bias, barred stop tokens, then the penalties: repetition
    (https://arxiv.org/abs/1909.05858), frequency and presence
    (https://platform.openai.com/docs/guides/text-generation).
    """
    tables = [each.adjustments.table(each.position) for each in due]
    rows = np.repeat([each.row for each in due], [len(ids) for ids, _ in tables])
    columns = np.concatenate([columns for _, columns in tables], axis=1)
    ids = np.concatenate([ids for ids, _ in tables])
    index = torch.from_numpy(rows).to(logits.device), torch.from_numpy(ids).to(logits.device)
    logits[index] = _adjusted(logits[index], torch.from_numpy(columns).to(logits.device))


def _adjusted(values: Tensor, columns: Tensor) -> Tensor:
    bias, factor, deduction, barred = columns
    values = values + bias
    values = torch.where(values > 0, values / factor, values * factor) - deduction
    # A finite logit stays finite, whatever the parameters.
    return values.clamp_max_(_MAX).masked_fill_(barred > 0, -torch.inf)
