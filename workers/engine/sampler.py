"""Sampler: draws the next token of every row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.sampling import SamplingParams

#: Number of best candidates among which a nucleus is looked for, before the whole vocabulary is sorted.
_NUM_CANDIDATES = 256
#: Logits that a CPU works on at once: what stays in its cache is twice as fast.
_CPU_LOGITS = 1 << 18
#: Colder than this is this: what a float32 can divide a logit by.
_MIN_TEMPERATURE = 1e-6
#: Up to here every integer is a float64.
_EXACT_BITS = 52


@dataclass(frozen=True, slots=True)
class SampleRow:
    """How the next token of one sequence is drawn."""

    sampling: SamplingParams
    #: Which choice of its request the sequence is.
    choice: int
    #: Position of the token in the choice's output.
    position: int


class Sampler:
    """Draws tokens, each a function of its own logits and SampleRow: never of the rows beside it.

    Weights are integers (a softmax in fixed point, held in float64), so their sums are exact in whatever
    order a device adds them up; equal logits are ordered by id. Chance is one hash per draw, no state.
    """

    def sample(self, logits: Tensor, rows: Sequence[SampleRow]) -> list[int]:
        """One token for each row of `logits`, float32 [len(rows), vocabulary].

        Never fails on what a model computes: a row of NaN or infinities gives some token.
        """
        assert logits.shape[0] == len(rows)
        best = logits.argmax(-1)
        drawn = [i for i, row in enumerate(rows) if not row.sampling.is_greedy]
        whole = [i for i in drawn if rows[i].sampling.top_p >= 1]
        nucleus = [i for i in drawn if rows[i].sampling.top_p < 1]
        num_at_once = _num_at_once(logits)
        for indices, draw in ((whole, _draw_whole), (nucleus, _draw_nucleus)):
            for start in range(0, len(indices), num_at_once):
                part = indices[start : start + num_at_once]
                best[part] = draw(_Weighted.of(logits[part], best[part], [rows[i] for i in part]))
        return best.tolist()


def _num_at_once(logits: Tensor) -> int:
    num_rows, num_tokens = logits.shape
    return max(1, _CPU_LOGITS // num_tokens if logits.device.type == "cpu" else num_rows)


@dataclass(frozen=True, slots=True)
class _Weighted:
    """The rows that are drawn in one way. R rows, V tokens."""

    #: [R, V]
    logits: Tensor
    #: [R]: the likeliest token, taken where a row has no usable weights.
    best: Tensor
    #: [R, V] float64: integers in proportion to the probabilities, at most 2**52 in all.
    weights: Tensor
    #: [R, 1] float64, as are the others.
    total: Tensor
    top_p: Tensor
    uniform: Tensor

    @classmethod
    def of(cls, logits: Tensor, best: Tensor, rows: Sequence[SampleRow]) -> _Weighted:
        temperature = [[max(row.sampling.temperature, _MIN_TEMPERATURE)] for row in rows]
        weights = _weights(logits, best, logits.new_tensor(temperature))
        top_p = weights.new_tensor([[row.sampling.top_p] for row in rows])
        uniform = torch.from_numpy(uniforms(rows)).to(logits.device)[:, None]
        return cls(logits, best, weights, weights.sum(-1, keepdim=True), top_p, uniform)

    def only(self, indices: Tensor) -> _Weighted:
        return _Weighted(
            self.logits[indices],
            self.best[indices],
            self.weights[indices],
            self.total[indices],
            self.top_p[indices],
            self.uniform[indices],
        )


def _weights(logits: Tensor, best: Tensor, temperature: Tensor) -> Tensor:
    """Softmax in fixed point: the best token has 2**bits, where bits leaves room for the sum of all."""
    bits = _EXACT_BITS - (logits.shape[-1] - 1).bit_length()
    weights = logits - logits.gather(1, best[:, None])
    weights.div_(temperature).exp_().mul_(2.0**bits).floor_().nan_to_num_(nan=0.0)
    return weights.double()


def _draw_whole(rows: _Weighted) -> Tensor:
    """From the whole distribution, its tokens in the order of their ids."""
    index = _invert(rows.weights.cumsum(-1), rows.total, rows.uniform)
    return torch.where(rows.total[:, 0] > 0, index, rows.best)


def _invert(cumulated: Tensor, total: Tensor, uniform: Tensor) -> Tensor:
    """[R]: the first index at which the cumulated weights exceed uniform * total."""
    threshold = (uniform * total).floor_().minimum(total - 1)
    index = torch.searchsorted(cumulated, threshold, right=True)
    return index[:, 0].clamp_max(cumulated.shape[-1] - 1)


def _draw_nucleus(rows: _Weighted) -> Tensor:
    """From the smallest set of likeliest tokens whose share reaches top_p (https://arxiv.org/abs/1904.09751).

    Where the best few do not suffice all are looked at, for just those rows.
    """
    num_tokens = rows.logits.shape[-1]
    drawn, is_certain = _draw_from_best(rows, min(_NUM_CANDIDATES, num_tokens))
    others = (~is_certain).nonzero()[:, 0]
    if len(others):
        drawn[others], _ = _draw_from_best(rows.only(others), num_tokens)
    return torch.where(rows.total[:, 0] > 0, drawn, rows.best)


def _draw_from_best(rows: _Weighted, num: int) -> tuple[Tensor, Tensor]:
    """The tokens drawn from among the `num` best, and for which rows that is the nucleus's draw.

    Which of the tokens that equal the worst candidate are candidates is chance, so none of them is used.
    """
    ids = _best_ids(rows.logits, num)
    weights = rows.weights.gather(1, ids)
    if num < rows.logits.shape[-1]:
        values = rows.logits.gather(1, ids)
        weights.mul_(values > values[:, -1:])
    target = rows.top_p * rows.total
    cumulated = weights.cumsum(-1)
    kept = torch.where(cumulated - weights < target, cumulated, 0).amax(-1, keepdim=True)
    index = _invert(cumulated, kept, rows.uniform)
    return ids.gather(1, index[:, None])[:, 0], cumulated[:, -1] >= target[:, 0]


def _best_ids(logits: Tensor, num: int) -> Tensor:
    """[R, num]: the tokens with the largest logits, from the largest down, equal ones by id."""
    if num < logits.shape[-1]:
        ids = logits.topk(num, -1, sorted=False).indices
        logits = logits.gather(1, ids)
    else:
        ids = torch.arange(num, device=logits.device).expand(logits.shape)
    # The bits of a float32 as an integer that falls as the float rises, zeros of both signs alike.
    bits = (logits + 0.0).view(torch.int32)
    falling = ~(bits ^ ((bits >> 31) & 0x7FFFFFFF))
    return _sorted((falling.long() << 32) | ids) & 0xFFFFFFFF


def _sorted(keys: Tensor) -> Tensor:
    """Integers in order. numpy's sort is eight times as fast as torch's on a CPU."""
    if keys.device.type == "cpu":
        return torch.from_numpy(np.sort(keys.numpy(), -1))
    return keys.sort(-1).values


def uniforms(rows: Sequence[SampleRow]) -> NDArray[np.float64]:
    """One number in [0, 1) for each row: a hash of (seed, choice, position).

    Hashed in a chain, since any sum of the three would give one job's draws to another.
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
