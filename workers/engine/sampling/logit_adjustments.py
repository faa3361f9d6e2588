"""LogitAdjustments: what a sequence's parameters and tokens do to its logits before a token is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.domain.sampling import SamplingParams

_NUM_COLUMNS = 4
#: The columns of a table: bias, factor of the repetition penalty, what is deducted, and 1 where the token is
#: barred before `min_tokens`.
_BIAS, _FACTOR, _DEDUCTION, _BARRED = range(_NUM_COLUMNS)
#: Nearly the largest float32.
_MAX = 3e38
_UNTOUCHED = np.array([[0.0], [1.0], [0.0], [0.0]], np.float32)


class LogitAdjustments:
    """Logit bias, barred stop tokens and penalties of one sequence, of the ids concerned alone.

    A function of the parameters and of the tokens taken, so a replay rebuilds it; a token costs O(1).
    """

    def __init__(self, sampling: SamplingParams, stop_token_ids: Iterable[int]) -> None:
        self._repetition = sampling.repetition_penalty
        self._presence = sampling.presence_penalty
        self._frequency = sampling.frequency_penalty
        self._min_tokens = sampling.min_tokens
        self._index: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._ids = np.zeros(64, np.int64)
        self._columns = np.tile(_UNTOUCHED, 64)
        if sampling.min_tokens:
            self._mark(_BARRED, stop_token_ids, 1.0)
        for token_id, bias in sampling.logit_bias:
            self._mark(_BIAS, [token_id], bias)
        self._is_biased = bool(sampling.logit_bias)

    @classmethod
    def of(
        cls,
        sampling: SamplingParams,
        stop_token_ids: Iterable[int],
        prompt: Sequence[int],
        output: Sequence[int],
    ) -> LogitAdjustments | None:
        """For a sequence that holds these tokens; None where nothing would ever be done."""
        adjustments = cls(sampling, stop_token_ids)
        if not (adjustments._index or adjustments._has_penalties):
            return None
        adjustments._read(prompt)
        for token_id in output:
            adjustments.push(token_id)
        return adjustments

    def push(self, token_id: int) -> None:
        """Take the next token of the output."""
        if not self._has_penalties:
            return
        count = self._counts[token_id] = self._counts.get(token_id, 0) + 1
        self._mark(_FACTOR, [token_id], self._repetition)
        self._mark(_DEDUCTION, [token_id], self._frequency * count + self._presence)

    def is_due(self, position: int) -> bool:
        """Whether the token at this position is drawn from other logits than the model's."""
        return self._is_biased or self._has_penalties or position < self._min_tokens

    def table(self, position: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids concerned and, for each, its columns."""
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
            self._mark(_FACTOR, dict.fromkeys(prompt), self._repetition)

    def _mark(self, column: int, token_ids: Iterable[int], value: float) -> None:
        places = [self._place(token_id) for token_id in token_ids]
        self._columns[column, places] = max(-_MAX, min(_MAX, value))

    def _place(self, token_id: int) -> int:
        """Where the table has a token; it gets a place if it has none."""
        place = self._index.setdefault(token_id, len(self._index))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._columns = np.concatenate([self._columns, np.tile(_UNTOUCHED, place)], axis=1)
        self._ids[place] = token_id
        return place


class Due(NamedTuple):
    """One row whose logits are to be adjusted."""

    row: int
    position: int
    adjustments: LogitAdjustments


def adjust(logits: Tensor, due: Sequence[Due]) -> None:
    """Changes `logits`, float32 [R, V], where it is due, and no id but those concerned.

    In vLLM's order: bias, barred stop tokens, then the penalties: repetition
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
    return values.masked_fill_(barred > 0, -torch.inf)
