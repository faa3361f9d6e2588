"""Sampler: draws the next token of every row of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.sampling import SamplingParams
from workers.engine.adjustments import Adjustments, Due, adjusted
from workers.engine.logprobs import Scores, score
from workers.engine.ranked_row import RankedRow
from workers.engine.ranking import best_ids
from workers.engine.token_mask import Constrained, TokenRule, masked

#: How many of the best tokens are looked at for a cut, before all are.
_NUM_CANDIDATES = 256
#: Logits that a CPU works on at once: what stays in its cache is twice as fast.
_CPU_LOGITS = 1 << 18
#: Colder than this is this: what a float32 can divide a logit by.
_MIN_TEMPERATURE = 1e-6
#: Of what is less likely by this power of e nothing is left in whole numbers; `exp` takes several times as
#: long for what underflows.
_COLDEST = -80.0
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
    #: None: the model's logits are drawn from as they are.
    adjustments: Adjustments | None = None
    #: None: every token may be drawn.
    matcher: TokenRule | None = None

    @property
    def is_cut(self) -> bool:
        """Whether only the first so many tokens in the order of likelihood can be drawn."""
        return self.sampling.top_k is not None or self.sampling.top_p < 1

    @property
    def is_plain(self) -> bool:
        """Whether the likeliest token is all that is asked for."""
        sampling = self.sampling
        return (
            sampling.is_greedy
            and sampling.logprobs is None
            and self.adjustments is None
            and self.matcher is None
        )


@dataclass(frozen=True, slots=True)
class Drawn:
    """The next token of one sequence."""

    token_id: int
    #: None where none were asked for.
    scores: Scores | None = None


def first_of_largest(logits: Tensor) -> Tensor:
    """The likeliest token of each row. `argmax` finds the same, in three times as long on a CPU."""
    return logits.float().max(-1).indices


class Sampler:
    """Draws tokens, each a function of its own logits and SampleRow: never of the rows beside it.

    The order is vLLM's (vllm/v1/sample/sampler.py): what a grammar, `allowed_token_ids` and
    `bad_words` bar; bias, barred stop tokens and
    penalties (`Adjustments`); the likeliest token where the temperature is 0; elsewhere temperature, min_p (a
    share of the likeliest token's probability), top_k, and top_p of what those two left. Unlike there, log
    probabilities are those of the model's own logits with a grammar too, and top_k keeps no more than k of
    equal tokens: the first by id.

    Weights are integers (a softmax in fixed point, held in float64), so their sums are exact in whatever
    order a device adds them up; equal logits are ordered by id. Chance is one hash per draw, no state.
    """

    def __init__(self, find_likeliest: Callable[[Tensor], Tensor] = first_of_largest) -> None:
        self._find_likeliest = find_likeliest

    @torch.inference_mode()
    def sample(self, logits: Tensor, rows: Sequence[SampleRow]) -> list[Drawn]:
        """One token for each row of `logits`, contiguous [len(rows), vocabulary], of any dtype.

        The logits are the same afterwards. Never fails on what a model computes: a row of NaN or infinities
        gives some token, and one of which nothing may be drawn gives the likeliest that its grammar allows.
        """
        assert logits.shape[0] == len(rows)
        others = [i for i, row in enumerate(rows) if not row.is_plain]
        if len(others) == len(rows):
            return self._sample(logits.float(), rows)
        drawn = [Drawn(token_id) for token_id in self._find_likeliest(logits).tolist()]
        if others:
            # Of their own: the plain rows beside them cost no more than alone.
            sampled = self._sample(logits[others].float(), [rows[i] for i in others])
            for i, token in zip(others, sampled, strict=True):
                drawn[i] = token
        return drawn

    def _sample(self, logits: Tensor, rows: Sequence[SampleRow]) -> list[Drawn]:
        """The same for float32, by all that may be asked for."""
        with masked(logits, _constrained(rows)):
            with adjusted(logits, _due(rows)):
                best = self._find_likeliest(logits)
                is_barred = logits.gather(1, best[:, None])[:, 0] == -torch.inf
                drawn = _draw(logits, best, rows)
            if is_barred.any():
                drawn = torch.where(is_barred, self._find_likeliest(logits), drawn)
        return _scored(logits, rows, drawn.tolist())


def _constrained(rows: Sequence[SampleRow]) -> list[Constrained]:
    return [Constrained(i, row.matcher) for i, row in enumerate(rows) if row.matcher is not None]


def _due(rows: Sequence[SampleRow]) -> list[Due]:
    return [
        Due(i, row.position, row.adjustments)
        for i, row in enumerate(rows)
        if row.adjustments is not None and row.adjustments.is_due(row.position)
    ]


def _draw(logits: Tensor, best: Tensor, rows: Sequence[SampleRow]) -> Tensor:
    drawn = best.clone()
    warm = [i for i, row in enumerate(rows) if not row.sampling.is_greedy]
    whole = [i for i in warm if not rows[i].is_cut]
    cut = [i for i in warm if rows[i].is_cut]
    for indices, draw in ((whole, _draw_whole), (cut, _draw_cut)):
        for part in _parts(logits, indices):
            drawn[part] = draw(_Weighted.of(_taken(logits, part), best[part], [rows[i] for i in part]))
    return drawn


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
    """A copy of these rows, four times as fast as by indexing."""
    return logits.index_select(0, torch.tensor(rows, device=logits.device))


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

        temperature = column(lambda sampling: max(sampling.temperature, _MIN_TEMPERATURE))
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
    """Softmax in fixed point: the best token has 2**bits, where bits leaves room for the sum of all."""
    bits = _EXACT_BITS - (logits.shape[-1] - 1).bit_length()
    weights = logits - logits.gather(1, best[:, None])
    weights.div_(temperature).clamp_min_(_COLDEST).exp_()
    if any(min_p):
        weights.masked_fill_(weights < logits.new_tensor(min_p)[:, None], 0.0)
    weights.mul_(2.0**bits).floor_().nan_to_num_(nan=0.0)
    return weights.double()


def _draw_whole(rows: _Weighted) -> Tensor:
    """From all that min_p left, in the order of the ids."""
    index = _invert(rows.weights.cumsum(-1), rows.total, rows.uniform)
    return torch.where(rows.total[:, 0] > 0, index, rows.best)


def _invert(cumulated: Tensor, total: Tensor, uniform: Tensor) -> Tensor:
    """[R]: the first index at which the cumulated weights exceed uniform * total."""
    threshold = (uniform * total).floor_().minimum(total - 1)
    index = torch.searchsorted(cumulated, threshold, right=True)
    return index[:, 0].clamp_max(cumulated.shape[-1] - 1)


def _draw_cut(rows: _Weighted) -> Tensor:
    """From the likeliest top_k tokens, and of those the fewest whose share of them reaches top_p
    (https://arxiv.org/abs/1904.09751).

    Where the best few do not suffice all are looked at, for just those rows.
    """
    num_tokens = rows.logits.shape[-1]
    drawn, is_certain = _draw_from_best(rows, min(_NUM_CANDIDATES, num_tokens))
    is_usable = rows.total[:, 0] > 0
    others = (is_usable & ~is_certain).nonzero()[:, 0]
    if len(others):
        drawn[others] = _draw_from_all(rows.only(others))
    return torch.where(is_usable, drawn, rows.best)


def _draw_from_all(rows: _Weighted) -> Tensor:
    if rows.logits.device.type != "cpu":
        return _draw_from_best(rows, rows.logits.shape[-1])[0]
    return torch.tensor([_draw_ranked(rows, row) for row in range(len(rows.best))])


def _draw_ranked(rows: _Weighted, row: int) -> int:
    """The same as from a sort of all tokens, which takes a CPU several times as long."""
    ranked = RankedRow(rows.logits[row].numpy(), rows.weights[row].numpy(), float(rows.temperature[row]))
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
