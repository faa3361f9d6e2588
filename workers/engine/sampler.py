"""Sampler: draws the next token of every row of a batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workers.engine.adjustments import Due, adjust
from workers.engine.drawing import draw_cut, draw_likeliest, draw_whole
from workers.engine.logprobs import Scores, score
from workers.engine.sample_row import SampleRow
from workers.engine.token_mask import bar, masks_of

#: Logits that a CPU works on at once: what stays in its cache is twice as fast.
_CPU_LOGITS = 1 << 18

#: Of logits, their likeliest tokens and the rows the tokens that are drawn.
_Draw = Callable[[Tensor, Tensor, Sequence[SampleRow]], Tensor]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The next token of one sequence."""

    token_id: int
    #: None where none were asked for.
    scores: Scores | None = None


class FindLikeliest(Protocol):
    def __call__(self, logits: Tensor, masks: Tensor | None = None) -> Tensor:
        """int64 [R]: the likeliest token of each row of `logits` [R, V], of those that `masks_of` leaves."""


def first_of_largest(logits: Tensor, masks: Tensor | None = None) -> Tensor:
    """A FindLikeliest. `argmax` finds the same, in three times as long on a CPU."""
    if masks is None:
        return logits.float().max(-1).indices
    logits = logits.to(torch.float32, copy=True)
    bar(logits, masks)
    return logits.max(-1).indices


class Sampler:
    """Draws tokens, each a function of its own logits and SampleRow: never of the rows beside it.

    The order is vLLM's (vllm/v1/sample/sampler.py): what a grammar, `allowed_token_ids` and `bad_words` bar;
    bias, barred stop tokens and penalties (`Adjustments`); the likeliest token where the temperature is 0;
    elsewhere temperature, min_p (a share of the likeliest token's probability), top_k, and top_p of what
    those two left. Unlike there, log probabilities are those of the model's own logits with a grammar too,
    and top_k keeps no more than k of equal tokens: the first by id.
    """

    def __init__(self, find_likeliest: FindLikeliest = first_of_largest) -> None:
        self._find_likeliest = find_likeliest

    @torch.inference_mode()
    def sample(self, logits: Tensor, rows: Sequence[SampleRow]) -> list[Drawn]:
        """One token for each row of `logits`, contiguous [len(rows), vocabulary], of any dtype.

        Never fails on what a model computes: a row of NaN or infinities gives some token, and one of which
        nothing may be drawn gives the likeliest that its grammar allows.
        """
        assert logits.shape[0] == len(rows)
        # Before the first look at the logits: a device that works beside the CPU computes on meanwhile.
        masks = masks_of([row.matcher for row in rows], logits.shape[-1])
        if any(row.is_plain for row in rows):
            drawn = self._find_likeliest(logits, masks)
        else:
            drawn = torch.empty(len(rows), dtype=torch.int64, device=logits.device)
        for draw, indices in _ways(rows).items():
            for part in _parts(logits, indices):
                own_masks = None if masks is None else masks[part]
                drawn[part] = self._draw(_taken(logits, part), [rows[i] for i in part], own_masks, draw)
        return _scored(logits, rows, drawn.tolist())

    def _draw(self, logits: Tensor, rows: list[SampleRow], masks: Tensor | None, draw: _Draw) -> Tensor:
        """For rows that are drawn in one way, of logits of their own, float32, which are changed."""
        if masks is not None and any(row.matcher is not None for row in rows):
            bar(logits, masks)
        best = self._find_likeliest(logits)
        if not (due := _due(rows)):
            return draw(logits, best, rows)
        permitted = best
        adjust(logits, due)
        best = self._find_likeliest(logits)
        is_barred = logits.gather(1, best[:, None])[:, 0] == -torch.inf
        return torch.where(is_barred, permitted, draw(logits, best, rows))


def _ways(rows: Sequence[SampleRow]) -> dict[_Draw, list[int]]:
    """Rows that are not plain, by how they are drawn; first those of which some tokens are barred."""
    ways: dict[_Draw, list[int]] = defaultdict(list)
    for i in sorted(range(len(rows)), key=lambda i: rows[i].matcher is None):
        if not rows[i].is_plain:
            ways[_way(rows[i])].append(i)
    return ways


def _way(row: SampleRow) -> _Draw:
    if row.sampling.is_greedy:
        return draw_likeliest
    return draw_cut if row.is_cut else draw_whole


def _due(rows: Sequence[SampleRow]) -> list[Due]:
    return [
        Due(i, row.position, row.adjustments)
        for i, row in enumerate(rows)
        if row.adjustments is not None and row.adjustments.is_due(row.position)
    ]


def _scored(logits: Tensor, rows: Sequence[SampleRow], token_ids: Sequence[int]) -> list[Drawn]:
    scores: dict[int, Scores] = {}
    for part in _parts(logits, [i for i, row in enumerate(rows) if row.sampling.logprobs is not None]):
        num_top = [rows[i].sampling.logprobs or 0 for i in part]
        scores |= zip(part, score(_taken(logits, part), [token_ids[i] for i in part], num_top), strict=True)
    return [Drawn(token_id, scores.get(i)) for i, token_id in enumerate(token_ids)]


def _parts(logits: Tensor, indices: list[int]) -> list[list[int]]:
    """The rows that are worked on at once."""
    num_rows, num_tokens = logits.shape
    num = max(1, _CPU_LOGITS // num_tokens if logits.device.type == "cpu" else num_rows)
    return [indices[start : start + num] for start in range(0, len(indices), num)]


def _taken(logits: Tensor, rows: list[int]) -> Tensor:
    """A copy of these rows in float32; to index takes four times as long."""
    return logits.index_select(0, torch.tensor(rows, device=logits.device)).float()
