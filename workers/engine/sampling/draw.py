"""Drawing: how one token of each row is drawn from logits that are as they should be.

Weights are integers (a softmax in fixed point, held in float64), so their sums are exact in whatever order a
device adds them up; equal logits are ordered by id. Chance is one hash per draw, no state.
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
from workers.engine.constraints.token_mask import bar
from workers.engine.sampling.bucketed_top_k import BucketedTopK
from workers.engine.sampling.ranking import best_ids
from workers.engine.sampling.row import MIN_TEMPERATURE, SampleRow, uniforms
from workers.native.draw import weight_bits

#: Logits that a CPU works on at once: what stays in its cache is twice as fast.
_CPU_LOGITS = 1 << 18
#: How many of the best tokens are looked at for a cut, before all are.
_NUM_CANDIDATES = 256
#: Of what is less likely by this power of e nothing is left in whole numbers; `exp` takes several times as
#: long for what underflows.
_COLDEST = -80.0


class Draw(Protocol):
    def __call__(self, logits: Tensor, rows: Sequence[SampleRow], masks: Tensor | None = None) -> Tensor:
        """int64 [R]: a token for each row of `logits` [R, V], of those that its mask allows.

        The likeliest where the temperature is 0; elsewhere one drawn of what min_p (a share of the likeliest
        token's probability), then top_k, and then top_p leave. `masks` are those of `masks_of`.
        """


def draw(logits: Tensor, rows: Sequence[SampleRow], masks: Tensor | None = None) -> Tensor:
    """A Draw, on any device."""
    if masks is None and all(row.sampling.is_greedy for row in rows):
        return first_of_largest(logits.float())
    drawn = torch.empty(len(rows), dtype=torch.int64, device=logits.device)
    for draw_part, indices in _ways(rows).items():
        for part in parts(logits, indices):
            own = permitted(logits, rows, masks, part)
            drawn[part] = draw_part(own, first_of_largest(own), [rows[i] for i in part])
    return drawn


def first_of_largest(logits: Tensor) -> Tensor:
    """The likeliest token of each row. `argmax` finds the same, in three times as long on a CPU."""
    return logits.max(-1).indices


def parts(logits: Tensor, indices: list[int]) -> list[list[int]]:
    """The rows that are worked on at once."""
    num_rows, num_tokens = logits.shape
    num = max(1, _CPU_LOGITS // num_tokens if logits.device.type == "cpu" else num_rows)
    return [indices[start : start + num] for start in range(0, len(indices), num)]


def taken(logits: Tensor, rows: list[int]) -> Tensor:
    """A copy of these rows; to index takes four times as long."""
    return logits.index_select(0, torch.tensor(rows, device=logits.device))


def permitted(logits: Tensor, rows: Sequence[SampleRow], masks: Tensor | None, part: list[int]) -> Tensor:
    """A copy of a part's rows in float32, minus infinity where a token may not be drawn."""
    own = taken(logits, part).float()
    if masks is not None and any(rows[i].matcher is not None for i in part):
        bar(own, masks[part])
    return own


#: Of logits, their likeliest tokens and their rows the tokens that are drawn.
_DrawPart = Callable[[Tensor, Tensor, Sequence[SampleRow]], Tensor]


def _ways(rows: Sequence[SampleRow]) -> dict[_DrawPart, list[int]]:
    """Rows by how they are drawn; first those of which some tokens are barred."""
    ways: dict[_DrawPart, list[int]] = defaultdict(list)
    for i in sorted(range(len(rows)), key=lambda i: rows[i].matcher is None):
        ways[_way(rows[i])].append(i)
    return ways


def _way(row: SampleRow) -> _DrawPart:
    if row.sampling.is_greedy:
        return _draw_likeliest
    return _draw_cut if row.is_cut else _draw_whole


@dataclass(frozen=True, slots=True)
class _Weighted:
    """The rows that are drawn in one way. R rows, V tokens."""

    #: [R, V]
    logits: Tensor
    #: [R]: the likeliest token, taken where a row has no usable weights.
    best: Tensor
    #: [R, V] float64: integers in proportion to the probabilities, at most 2**52 in all; 0 below min_p.
    weights: Tensor
    #: [R, 1] float64, as are the others.
    total: Tensor
    temperature: Tensor
    #: As many as there are tokens where nothing is asked for.
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
    """Softmax in fixed point."""
    weights = logits - logits.gather(1, best[:, None])
    weights.div_(temperature).clamp_min_(_COLDEST).exp_()
    if any(min_p):
        weights.masked_fill_(weights < logits.new_tensor(min_p)[:, None], 0.0)
    weights.mul_(2.0 ** weight_bits(logits.shape[-1])).floor_().nan_to_num_(nan=0.0)
    return weights.double()


def _draw_likeliest(_logits: Tensor, best: Tensor, _rows: Sequence[SampleRow]) -> Tensor:
    return best


def _draw_whole(logits: Tensor, best: Tensor, rows: Sequence[SampleRow]) -> Tensor:
    """From all that min_p left, in the order of the ids."""
    weighted = _Weighted.of(logits, best, rows)
    index = _invert(weighted.weights.cumsum(-1), weighted.total, weighted.uniform)
    return torch.where(weighted.total[:, 0] > 0, index, best)


def _invert(cumulated: Tensor, total: Tensor, uniform: Tensor) -> Tensor:
    """[R]: the first index at which the cumulated weights exceed uniform * total."""
    threshold = (uniform * total).floor_().minimum(total - 1)
    index = torch.searchsorted(cumulated, threshold, right=True)
    return index[:, 0].clamp_max(cumulated.shape[-1] - 1)


def _draw_cut(logits: Tensor, best: Tensor, rows: Sequence[SampleRow]) -> Tensor:
    """From the likeliest top_k tokens, and of those the fewest whose share of them reaches top_p
    (https://arxiv.org/abs/1904.09751).

    Where the best few do not suffice all are looked at, for just those rows.
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
    return torch.tensor([_draw_ranked(rows, row) for row in range(len(rows.best))])


def _draw_ranked(rows: _Weighted, row: int) -> int:
    """The same as from a sort of all tokens, which takes a CPU several times as long."""
    ranked = BucketedTopK(rows.logits[row].numpy(), rows.weights[row].numpy(), float(rows.temperature[row]))
    top_k = int(rows.top_k[row])
    total = ranked.weight_of_best(top_k)
    kept = ranked.reach(float(rows.top_p[row]) * total)
    return ranked.token_beyond(min(math.floor(float(rows.uniform[row]) * kept), kept - 1))


def _draw_from_best(rows: _Weighted, num: int) -> tuple[Tensor, Tensor]:
    """The tokens drawn from among the `num` best, and for which rows that is what all of them would give."""
    num_tokens = rows.logits.shape[-1]
    ids = best_ids(rows.logits, num)
    weights = rows.weights.gather(1, ids)
    weights.masked_fill_(torch.arange(num, device=ids.device) >= rows.top_k, 0.0)
    cumulated = weights.cumsum(-1)
    total = torch.where(rows.top_k < num_tokens, cumulated[:, -1:], rows.total)
    target = rows.top_p * total
    kept = torch.where(cumulated - weights < target, cumulated, 0).amax(-1, keepdim=True)
    index = _invert(cumulated, kept, rows.uniform)
    is_whole = (rows.top_k <= num) | (cumulated[:, -1:] >= rows.total)
    is_certain = is_whole | ((rows.top_k >= num_tokens) & (kept >= target))
    return ids.gather(1, index[:, None])[:, 0], is_certain[:, 0]
