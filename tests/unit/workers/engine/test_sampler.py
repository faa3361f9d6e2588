"""workers.engine.sampler."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.sampling import SamplingParams
from workers.engine.sampler import Sampler, SampleRow, uniforms

#: Enough draws for a test of a distribution.
_DRAWS = 4000
#: Chi-square's 0.999 quantile, by degrees of freedom (its cube-root approximation).
_QUANTILE = 3.09


def row(seed: int = 0, choice: int = 0, position: int = 0, **params: Any) -> SampleRow:
    return SampleRow(SamplingParams(max_tokens=100, seed=seed, **params), choice, position)


def draw(logits: Tensor, rows: Sequence[SampleRow]) -> list[int]:
    return Sampler().sample(logits, rows)


def draw_many(logits: Tensor, num: int = _DRAWS, **params: Any) -> list[int]:
    """`num` draws from one distribution, by as many seeds."""
    return draw(logits.expand(num, -1), [row(seed, **params) for seed in range(num)])


def nucleus_of(logits: Tensor, temperature: float, top_p: float) -> tuple[list[int], np.ndarray[Any, Any]]:
    """The reference in float64: the kept tokens, best first, and their probabilities."""
    values = logits.double().numpy() / temperature
    order = np.lexsort((np.arange(len(values)), -values))
    probabilities = np.exp(values - values.max())[order]
    probabilities /= probabilities.sum()
    num = int(((np.cumsum(probabilities) - probabilities) < top_p).sum())
    return order[:num].tolist(), probabilities[:num] / probabilities[:num].sum()


def assert_distributed(tokens: list[int], ids: list[int], probabilities: np.ndarray[Any, Any]) -> None:
    """Chi-square over the likelier tokens and all others together."""
    counts = Counter(tokens)
    assert set(counts) <= set(ids)
    common = [(counts[i], p) for i, p in zip(ids, probabilities, strict=True) if p * len(tokens) >= 10]
    common.append((len(tokens) - sum(c for c, _ in common), 1 - sum(p for _, p in common)))
    chi_square = sum((c - p * len(tokens)) ** 2 / (p * len(tokens)) for c, p in common if p > 1e-4)
    freedom = max(1, len(common) - 1)
    limit = freedom * (1 - 2 / (9 * freedom) + _QUANTILE * math.sqrt(2 / (9 * freedom))) ** 3
    assert chi_square < limit


def random_logits(num_rows: int, num_tokens: int, seed: int = 1) -> Tensor:
    return torch.randn(num_rows, num_tokens, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.9), (1.7, 0.6), (1.0, 0.9999)]
)
@pytest.mark.parametrize("num_tokens", [5, 400])
def test_draws_follow_the_distribution(num_tokens: int, temperature: float, top_p: float) -> None:
    logits = random_logits(1, num_tokens)
    tokens = draw_many(logits, temperature=temperature, top_p=top_p)
    assert_distributed(tokens, *nucleus_of(logits[0], temperature, top_p))


@pytest.mark.parametrize("part", ["choice", "position"])
def test_choices_and_positions_of_one_seed_draw_independently(part: str) -> None:
    logits = random_logits(1, 50)
    tokens = draw(logits.expand(_DRAWS, -1), [row(7, **{part: i}) for i in range(_DRAWS)])
    assert_distributed(tokens, *nucleus_of(logits[0], 1.0, 1.0))


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.99])
def test_a_nucleus_has_exactly_its_tokens(top_p: float) -> None:
    logits = random_logits(1, 12) / 3
    ids, _ = nucleus_of(logits[0], 1.0, top_p)
    assert set(draw_many(logits, top_p=top_p)) == set(ids)


def test_a_nucleus_ends_with_the_token_that_reaches_top_p() -> None:
    logits = torch.zeros(1, 4)
    assert set(draw_many(logits, 200, top_p=0.5)) == {0, 1}
    assert set(draw_many(logits, 200, top_p=0.51)) == {0, 1, 2}


@pytest.mark.parametrize("top_p", [0.3, 0.5, 0.999])
def test_a_nucleus_beyond_the_first_candidates_is_exact(top_p: float) -> None:
    logits = random_logits(1, 3000) / 10
    ids, probabilities = nucleus_of(logits[0], 1.0, top_p)
    assert len(ids) > 256
    assert_distributed(draw_many(logits, 1000, top_p=top_p), ids, probabilities)


def test_equal_logits_are_ordered_by_id_in_and_beyond_the_candidates() -> None:
    logits = torch.zeros(1, 1000)
    logits[0, 500:] = 5.0
    assert set(draw_many(logits, 2000, top_p=0.1)) == set(range(500, 551))
    assert set(draw_many(logits, 4000, top_p=0.4)) <= set(range(500, 702))
    logits[0, 501] = -0.0
    logits[0, 500] = 0.0
    assert set(draw_many(-logits.abs(), 50, temperature=1e-4, top_p=0.01)) == set(range(6))


def test_greedy_takes_the_likeliest_token_and_of_equal_ones_the_first() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0], [3.0, 3.0, 3.0, 3.0], [0.0, 1.0, 2.0, 3.0]])
    assert draw(logits, [row(temperature=0.0)] * 3) == [1, 0, 3]
    wide = torch.zeros(1, 50_000)
    wide[0, [40_000, 777, 49_999]] = 1.0
    assert draw(wide, [row(temperature=0.0)]) == [777]


@pytest.mark.parametrize("top_p", [0.9, 1.0])
@pytest.mark.parametrize("temperature", [1e-300, 1e-6, 1e-3])
def test_a_tiny_temperature_takes_the_likeliest_token(temperature: float, top_p: float) -> None:
    logits = random_logits(20, 300)
    rows = [row(seed, temperature=temperature, top_p=top_p) for seed in range(20)]
    assert draw(logits, rows) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("top_p", [0.999999, 1.0])
def test_a_huge_temperature_draws_uniformly(top_p: float) -> None:
    ids = list(range(30))
    tokens = draw_many(random_logits(1, 30), temperature=1e9, top_p=top_p)
    assert_distributed(tokens, ids, np.full(30, 1 / 30))


@pytest.mark.parametrize("num_tokens", [300, 1001, 32_003])
def test_a_draw_is_the_same_alone_and_among_any_others(num_tokens: int) -> None:
    logits = random_logits(31, num_tokens).bfloat16().float()
    kinds = [(1.0, 1.0), (0.0, 1.0), (1.0, 0.9), (1.5, 0.99), (0.3, 1.0)]
    rows = [row(i, i % 3, i * 7, temperature=kinds[i % 5][0], top_p=kinds[i % 5][1]) for i in range(31)]
    alone = [draw(logits[i : i + 1], [rows[i]])[0] for i in range(31)]
    for size in (2, 3, 8, 31):
        starts = range(0, 31, size)
        parts = [draw(logits[start : start + size], rows[start : start + size]) for start in starts]
        assert list(chain(*parts)) == alone
    order = torch.randperm(31, generator=torch.Generator().manual_seed(3)).tolist()
    assert draw(logits[order], [rows[i] for i in order]) == [alone[i] for i in order]


def test_logits_are_left_as_they_are() -> None:
    logits = random_logits(3, 400)
    before = logits.clone()
    draw(logits, [row(), row(top_p=0.5), row(temperature=0.0)])
    assert torch.equal(logits, before)


@pytest.mark.parametrize("params", [{}, {"top_p": 0.9}, {"temperature": 0.0}])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_whatever_a_model_computes_gives_a_token(value: float, params: dict[str, Any]) -> None:
    logits = random_logits(4, 300)
    logits[0] = value
    logits[1, 5] = value
    logits[2, 5:] = value
    tokens = draw(logits, [row(i, **params) for i in range(4)])
    assert all(0 <= token < 300 for token in tokens)
    assert tokens[3] == draw(logits[3:], [row(3, **params)])[0]


def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.full((1, 400), -math.inf)
    logits[0, [3, 300]] = 0.0
    assert set(draw_many(logits, 300)) == set(draw_many(logits, 300, top_p=0.999)) == {3, 300}


def test_no_rows_give_no_tokens() -> None:
    assert draw(torch.zeros(0, 10), []) == []


def test_numbers_of_seed_choice_and_position_are_these_for_ever() -> None:
    """Another worker, of another release, goes on with a job that this one began."""
    rows = [row(), row(1), row(0, 1), row(0, 0, 1), row(2**63 - 1, 127, 10**6)]
    assert uniforms(rows).tolist() == [
        0.13870941014555427,
        0.6935121390102292,
        0.5803592313314876,
        0.2582654469187293,
        0.880023055333527,
    ]
    assert len(set(uniforms([row(s, c, p) for s in range(9) for c in range(9) for p in range(9)]))) == 729
