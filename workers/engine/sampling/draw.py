"""Draws one token per row from adjusted logits.

Weights are integers (a fixed-point softmax, stored in float64). Their sums are therefore exact in whatever
order a device adds them. Equal logits are ordered by id. The random number of a draw is a hash, so there is
no state.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from shared.domain.sampling import SamplingParams
from workers.engine.constraints.token_mask import apply_masks
from workers.engine.sampling.bucketed_top_k import BucketedTopK
from workers.engine.sampling.numerics import are_usable
from workers.engine.sampling.ranking import best_ids
from workers.engine.sampling.row import MIN_TEMPERATURE, SampleRow, uniforms
from workers.native.draw import UNUSABLE, weight_bits

#: Logits that a CPU processes at a time. Staying in its cache is twice as fast.
_CPU_LOGITS = 1 << 18
#: Number of most likely tokens to try for top_k and top_p before using all of them.
_NUM_CANDIDATES = 256
#: Below e to this power, weights round to 0. `exp` is several times slower where it underflows.
_COLDEST = -80.0


class DrawFunction(Protocol):
    def __call__(self, logits: Tensor, rows: Sequence[SampleRow], masks: Tensor | None = None) -> Tensor:
        """Draw a token for each row of `logits` [R, V] among those that its mask allows. Returns int64 [R].

        At temperature 0 it is the most likely token. Otherwise it is drawn from the tokens that remain after
        min_p (relative to the most likely token's probability), then top_k, then top_p. `masks` come from
        `masks_of`. A row whose logits are unusable (see `numerics`) yields UNUSABLE.
        """


def draw(logits: Tensor, rows: Sequence[SampleRow], masks: Tensor | None = None) -> Tensor:
    """The DrawFunction in torch, for any device."""
    if masks is None and all(row.sampling.is_greedy for row in rows):
        largest = most_likely(logits.float())
        return _checked(largest.indices, largest.values, rows)
    drawn = torch.empty(len(rows), dtype=torch.int64, device=logits.device)
    for draw_rows, indices in _by_method(rows).items():
        for part in split_rows(logits, indices):
            own = mask_logits(logits, rows, masks, part)
            largest, own_rows = most_likely(own), [rows[i] for i in part]
            drawn[part] = _checked(draw_rows(own, largest.indices, own_rows), largest.values, own_rows)
    return drawn


def most_likely(logits: Tensor) -> torch.return_types.max:
    """The most likely token of each row (`indices`) and its logit (`values`). `argmax` takes three times as long."""
    return logits.max(-1)


def _checked(drawn: Tensor, largest: Tensor, rows: Sequence[SampleRow]) -> Tensor:
    return torch.where(are_usable(largest, rows), drawn, UNUSABLE)


def split_rows(logits: Tensor, indices: list[int]) -> list[list[int]]:
    """Split rows into parts that are processed together."""
    num_rows, num_tokens = logits.shape
    num = max(1, _CPU_LOGITS // num_tokens if logits.device.type == "cpu" else num_rows)
    return [indices[start : start + num] for start in range(0, len(indices), num)]


def select_rows(logits: Tensor, rows: list[int]) -> Tensor:
    """Copy these rows. Indexing takes four times as long."""
    return logits.index_select(0, torch.tensor(rows, device=logits.device))


def mask_logits(logits: Tensor, rows: Sequence[SampleRow], masks: Tensor | None, part: list[int]) -> Tensor:
    """Copy these rows in float32, with minus infinity for barred tokens."""
    own = select_rows(logits, part).float()
    if masks is not None and any(rows[i].matcher is not None for i in part):
        apply_masks(own, masks[part])
    return own


#: Draws tokens from logits, given their most likely tokens and their rows.
_DrawRows = Callable[[Tensor, Tensor, Sequence[SampleRow]], Tensor]


def _by_method(rows: Sequence[SampleRow]) -> dict[_DrawRows, list[int]]:
    """Group row indices by drawing method. Rows with barred tokens come first."""
    methods: dict[_DrawRows, list[int]] = defaultdict(list)
    for i in sorted(range(len(rows)), key=lambda i: rows[i].matcher is None):
        methods[_method(rows[i])].append(i)
    return methods


def _method(row: SampleRow) -> _DrawRows:
    if row.sampling.is_greedy:
        return _draw_greedy
    return _draw_truncated if row.is_truncated else _draw_full


@dataclass(frozen=True, slots=True)
class _Weighted:
    """Weights and parameters of rows that are drawn with one method. R rows, V tokens."""

    #: [R, V]
    logits: Tensor
    #: [R]: the most likely token, the fallback for rows without usable weights.
    best: Tensor
    #: [R, V] float64: integers proportional to the probabilities, at most 2**52 in total. 0 below min_p.
    weights: Tensor
    #: [R, 1] float64, like the following.
    total: Tensor
    temperature: Tensor
    #: V if not set.
    top_k: Tensor
    top_p: Tensor
    uniform: Tensor

    @classmethod
    def of(cls, logits: Tensor, best: Tensor, rows: Sequence[SampleRow]) -> _Weighted:
        def column(value: Callable[[SamplingParams], float]) -> Tensor:
            return torch.tensor(
                [[value(row.sampling)] for row in rows], dtype=torch.float64, device=logits.device
            )

        temperature = column(lambda sampling: max(sampling.temperature, MIN_TEMPERATURE))
        weights = _weights(logits, best, temperature.float(), [row.sampling.min_p for row in rows])
        return cls(
            logits,
            best,
            weights,
            weights.sum(-1, keepdim=True),
            temperature,
            column(lambda sampling: min(sampling.top_k or logits.shape[-1], logits.shape[-1])),
            column(lambda sampling: sampling.top_p),
            torch.from_numpy(uniforms(rows)).to(logits.device)[:, None],
        )

    def only(self, indices: Tensor) -> _Weighted:
        if len(indices) == len(self.best):
            return self
        return _Weighted(
            self.logits[indices],
            self.best[indices],
            self.weights[indices],
            self.total[indices],
            self.temperature[indices],
            self.top_k[indices],
            self.top_p[indices],
            self.uniform[indices],
        )


def _weights(logits: Tensor, best: Tensor, temperature: Tensor, min_p: list[float]) -> Tensor:
    """Fixed-point softmax."""
    weights = logits - logits.gather(1, best[:, None])
    weights.div_(temperature).clamp_min_(_COLDEST).exp_()
    if any(min_p):
        weights.masked_fill_(weights < logits.new_tensor(min_p)[:, None], 0.0)
    weights.mul_(2.0 ** weight_bits(logits.shape[-1])).floor_().nan_to_num_(nan=0.0)
    return weights.double()


def _draw_greedy(_logits: Tensor, best: Tensor, _rows: Sequence[SampleRow]) -> Tensor:
    return best


def _draw_full(logits: Tensor, best: Tensor, rows: Sequence[SampleRow]) -> Tensor:
    """Draw from all tokens that min_p keeps, in order of their ids."""
    weighted = _Weighted.of(logits, best, rows)
    index = _invert(weighted.weights.cumsum(-1), weighted.total, weighted.uniform)
    return torch.where(weighted.total[:, 0] > 0, index, best)


def _invert(cumulative: Tensor, total: Tensor, uniform: Tensor) -> Tensor:
    """The first index at which the cumulative weight exceeds uniform * total: [R]."""
    threshold = (uniform * total).floor_().minimum(total - 1)
    index = torch.searchsorted(cumulative, threshold, right=True)
    return index[:, 0].clamp_max(cumulative.shape[-1] - 1)


def _draw_truncated(logits: Tensor, best: Tensor, rows: Sequence[SampleRow]) -> Tensor:
    """Draw from the top_k most likely tokens, reduced to the smallest set whose share reaches top_p
    (https://arxiv.org/abs/1904.09751).

    Rows for which the first candidates do not suffice use all tokens.
    """
    weighted = _Weighted.of(logits, best, rows)
    num_tokens = logits.shape[-1]
    drawn, is_certain = _draw_from_best(weighted, min(_NUM_CANDIDATES, num_tokens))
    is_usable = weighted.total[:, 0] > 0
    others = (is_usable & ~is_certain).nonzero()[:, 0]
    if len(others):
        drawn[others] = _draw_from_all(weighted.only(others))
    return torch.where(is_usable, drawn, best)


def _draw_from_all(rows: _Weighted) -> Tensor:
    if rows.logits.device.type != "cpu":
        return _draw_from_best(rows, rows.logits.shape[-1])[0]
    return torch.tensor([_draw_bucketed(rows, row) for row in range(len(rows.best))])


def _draw_bucketed(rows: _Weighted, row: int) -> int:
    """Draw the same token as by sorting all tokens, which takes a CPU several times as long."""
    ranked = BucketedTopK(rows.logits[row].numpy(), rows.weights[row].numpy(), float(rows.temperature[row]))
    top_k = int(rows.top_k[row])
    total = ranked.weight_of_best(top_k)
    kept = ranked.weight_reaching(float(rows.top_p[row]) * total)
    return ranked.token_beyond(min(math.floor(float(rows.uniform[row]) * kept), kept - 1))


def _draw_from_best(rows: _Weighted, num: int) -> tuple[Tensor, Tensor]:
    """Draw from the `num` most likely tokens. Also returns for which rows all tokens would give the same."""
    num_tokens = rows.logits.shape[-1]
    ids = best_ids(rows.logits, num)
    weights = rows.weights.gather(1, ids)
    weights.masked_fill_(torch.arange(num, device=ids.device) >= rows.top_k, 0.0)
    cumulative = weights.cumsum(-1)
    total = torch.where(rows.top_k < num_tokens, cumulative[:, -1:], rows.total)
    target = rows.top_p * total
    kept = torch.where(cumulative - weights < target, cumulative, 0).amax(-1, keepdim=True)
    index = _invert(cumulative, kept, rows.uniform)
    is_whole = (rows.top_k <= num) | (cumulative[:, -1:] >= rows.total)
    is_certain = is_whole | ((rows.top_k >= num_tokens) & (kept >= target))
    return ids.gather(1, index[:, None])[:, 0], is_certain[:, 0]
