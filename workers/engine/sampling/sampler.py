"""Sampler: draws the next token of every row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.engine.constraints.token_mask import masks_of
from workers.engine.sampling.draw import (
    DrawFunction,
    draw,
    mask_logits,
    most_likely,
    select_rows,
    split_rows,
)
from workers.engine.sampling.logit_adjustments import Due, adjust
from workers.engine.sampling.logprobs import Scores, score
from workers.engine.sampling.numerics import NumericalError, are_usable
from workers.engine.sampling.row import SampleRow
from workers.native.draw import UNUSABLE


@dataclass(frozen=True, slots=True)
class Drawn:
    """The next token of one sequence."""

    token_id: int
    #: None: not requested.
    scores: Scores | None = None


class Sampler:
    """Draws tokens. Each depends only on its own logits and SampleRow, never on other rows of the batch.

    The order is vLLM's (vllm/v1/sample/sampler.py): tokens barred by a grammar, `allowed_token_ids` and
    `bad_words`; then bias, barred stop tokens and penalties (`LogitAdjustments`); then the draw
    (`DrawFunction`). Unlike in vLLM, log probabilities are those of the model's own logits even with a
    grammar, and top_k keeps exactly k tokens: equal ones are kept in order of their ids.
    """

    def __init__(self, draw: DrawFunction = draw) -> None:
        self._draw = draw

    @torch.inference_mode()
    def sample(self, logits: Tensor, rows: Sequence[SampleRow]) -> list[Drawn | NumericalError]:
        """Draw one token for each row of `logits`, contiguous [len(rows), vocabulary], of any dtype.

        No model output makes it fail. A row of NaN or infinities yields a NumericalError. A row without drawable
        tokens yields the most likely token that its grammar allows.
        """
        assert logits.shape[0] == len(rows)
        # Done before the logits are first read, so that a GPU can compute on meanwhile.
        masks = masks_of([row.matcher for row in rows], logits.shape[-1])
        adjusted = [i for i, row in enumerate(rows) if row.is_adjusted]
        if not adjusted:
            return _scored(logits, rows, self._draw(logits, rows, masks).tolist())
        drawn = torch.empty(len(rows), dtype=torch.int64, device=logits.device)
        others = [i for i, row in enumerate(rows) if not row.is_adjusted]
        if others:
            own_masks = None if masks is None else masks[others]
            drawn[others] = self._draw(select_rows(logits, others), [rows[i] for i in others], own_masks)
        for part in split_rows(logits, adjusted):
            own = mask_logits(logits, rows, masks, part)
            drawn[part] = self._draw_adjusted(own, [rows[i] for i in part])
        return _scored(logits, rows, drawn.tolist())

    def _draw_adjusted(self, logits: Tensor, rows: list[SampleRow]) -> Tensor:
        """Draw from masked float32 logits, which are changed."""
        largest, fallback = most_likely(logits)
        is_usable = are_usable(largest, rows)
        adjust(logits, _due(rows))
        drawn = self._draw(logits, rows)
        is_barred = logits.gather(1, drawn.clamp(min=0)[:, None])[:, 0] == -torch.inf
        drawn = torch.where(is_barred | (drawn == UNUSABLE), fallback, drawn)
        return torch.where(is_usable, drawn, UNUSABLE)


def _due(rows: Sequence[SampleRow]) -> list[Due]:
    return [
        Due(i, row.position, row.adjustments) for i, row in enumerate(rows) if row.adjustments is not None
    ]


def _scored(
    logits: Tensor, rows: Sequence[SampleRow], token_ids: Sequence[int]
) -> list[Drawn | NumericalError]:
    scores: dict[int, Scores] = {}
    scored = [
        i for i, row in enumerate(rows) if row.sampling.logprobs is not None and token_ids[i] != UNUSABLE
    ]
    for part in split_rows(logits, scored):
        num_top = [rows[i].sampling.logprobs or 0 for i in part]
        scores |= zip(
            part, score(select_rows(logits, part).float(), [token_ids[i] for i in part], num_top), strict=True
        )
    return [
        NumericalError() if token_id == UNUSABLE else Drawn(token_id, scores.get(i))
        for i, token_id in enumerate(token_ids)
    ]
