"""Sampler: draws the next token of every row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.engine.constraints.token_mask import masks_of
from workers.engine.sampling.draw import Draw, draw, first_of_largest, parts, permitted, taken
from workers.engine.sampling.logit_adjustments import Due, adjust
from workers.engine.sampling.logprobs import Scores, score
from workers.engine.sampling.row import SampleRow


@dataclass(frozen=True, slots=True)
class Drawn:
    """The next token of one sequence."""

    token_id: int
    #: None where none were asked for.
    scores: Scores | None = None


class Sampler:
    """Draws tokens, each a function of its own logits and SampleRow: never of the rows beside it.

    The order is vLLM's (vllm/v1/sample/sampler.py): what a grammar, `allowed_token_ids` and `bad_words` bar;
    bias, barred stop tokens and penalties (`LogitAdjustments`); then as `Draw` says. Unlike there, log
    probabilities are those of the model's own logits with a grammar too, and top_k keeps no more than k of
    equal tokens: the first by id.
    """

    def __init__(self, draw: Draw = draw) -> None:
        self._draw = draw

    @torch.inference_mode()
    def sample(self, logits: Tensor, rows: Sequence[SampleRow]) -> list[Drawn]:
        """One token for each row of `logits`, contiguous [len(rows), vocabulary], of any dtype.

        Never fails on what a model computes: a row of NaN or infinities gives some token, and one of which
        nothing may be drawn gives the likeliest that its grammar allows.
        """
        assert logits.shape[0] == len(rows)
        # Before the first look at the logits: a device that works beside the CPU computes on meanwhile.
        masks = masks_of([row.matcher for row in rows], logits.shape[-1])
        adjusted = [i for i, row in enumerate(rows) if row.is_adjusted]
        if not adjusted:
            return _scored(logits, rows, self._draw(logits, rows, masks).tolist())
        drawn = torch.empty(len(rows), dtype=torch.int64, device=logits.device)
        others = [i for i, row in enumerate(rows) if not row.is_adjusted]
        if others:
            own_masks = None if masks is None else masks[others]
            drawn[others] = self._draw(taken(logits, others), [rows[i] for i in others], own_masks)
        for part in parts(logits, adjusted):
            own = permitted(logits, rows, masks, part)
            drawn[part] = self._draw_adjusted(own, [rows[i] for i in part])
        return _scored(logits, rows, drawn.tolist())

    def _draw_adjusted(self, logits: Tensor, rows: list[SampleRow]) -> Tensor:
        """Of what may be drawn, in float32, which it changes."""
        likeliest = first_of_largest(logits)
        adjust(logits, _due(rows))
        drawn = self._draw(logits, rows)
        is_barred = logits.gather(1, drawn[:, None])[:, 0] == -torch.inf
        return torch.where(is_barred, likeliest, drawn)


def _due(rows: Sequence[SampleRow]) -> list[Due]:
    return [
        Due(i, row.position, row.adjustments) for i, row in enumerate(rows) if row.adjustments is not None
    ]


def _scored(logits: Tensor, rows: Sequence[SampleRow], token_ids: Sequence[int]) -> list[Drawn]:
    scores: dict[int, Scores] = {}
    for part in parts(logits, [i for i, row in enumerate(rows) if row.sampling.logprobs is not None]):
        num_top = [rows[i].sampling.logprobs or 0 for i in part]
        scores |= zip(
            part, score(taken(logits, part).float(), [token_ids[i] for i in part], num_top), strict=True
        )
    return [Drawn(token_id, scores.get(i)) for i, token_id in enumerate(token_ids)]
