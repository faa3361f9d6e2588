from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from shared.domain.sampling import SamplingParams
from workers.engine.attention.slots import UnsupportedModel, slot_attention
from workers.engine.cache.slot_cache import LayerCache, SlotCache
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence

HEADS, KV_HEADS, DIM = 6, 2, 8


def written(count: int) -> tuple[LayerCache, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A layer with one sequence, and its queries, keys and values [1, heads, count, dim]."""
    torch.manual_seed(0)
    query = torch.randn(1, HEADS, count, DIM)
    keys, values = torch.randn(2, 1, KV_HEADS, count, DIM)
    sequence = Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), [0] * count, count)
    cache = SlotCache(KVBudget(64))
    cache.begin(Plan((Row(sequence, 0, 0, count),)), torch.device("cpu"))
    layer, _ = cache.update(keys, values, 0)
    return layer, query, keys, values


def attend(layer: LayerCache, query: torch.Tensor, **options: Any) -> torch.Tensor:
    return slot_attention(nn.Identity(), query, layer, layer, None, **options)[0]


def naive_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Textbook attention; [1, count, heads, dim]."""
    keys, values = (x.repeat_interleave(HEADS // KV_HEADS, 1) for x in (keys, values))
    scores = query @ keys.transpose(-1, -2) / DIM**0.5
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    distance = torch.arange(scores.shape[-1])[:, None] - torch.arange(scores.shape[-1])
    scores = scores.masked_fill((distance < 0) | (distance >= (window or 1 << 30)), float("-inf"))
    if sinks is not None:
        column = sinks.view(1, HEADS, 1, 1).expand(1, HEADS, scores.shape[2], 1)
        scores = torch.cat([scores, column], -1)
    weights = scores.softmax(-1)[..., : values.shape[2]]
    return torch.matmul(weights, values).transpose(1, 2)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_each_token_sees_itself_and_those_before(count: int) -> None:
    layer, query, keys, values = written(count)
    torch.testing.assert_close(attend(layer, query), naive_attention(query, keys, values))


@pytest.mark.parametrize(
    "options", [{}, {"sliding_window": 90}, {"softcap": 2.0, "s_aux": torch.linspace(-1, 1, 6)}], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_decoded_token_is_bit_identical_to_the_same_token_in_a_chunk(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    """Whatever the length, and however many keys a longer neighbour makes the step read."""
    torch.manual_seed(0)
    query = torch.randn(1, 6, 700, 64).to(dtype)
    keys, values = torch.randn(2, 1, 2, 700, 64).to(dtype)

    def compute(steps: list[list[tuple[int, int, int]]]) -> torch.Tensor:
        """The result of the last step's first row. Rows are (slot, start, end) of the same sequence."""
        cache = SlotCache(KVBudget(700))
        for step in steps:
            plan = Plan(tuple(Row(sequence, slot, start, end - start) for slot, start, end in step))
            cache.begin(plan, torch.device("cpu"))
            parts = [slice(start, end) for _, start, end in step]
            step_keys, step_values, step_query = (
                torch.cat([x[:, :, part] for part in parts], 2) for x in (keys, values, query)
            )
            layer, _ = cache.update(step_keys, step_values, 0)
        return attend(layer, step_query, **options)[0, : len(range(*step[0][1:]))]

    sequence = Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), [0] * 700, 700)
    whole = compute([[(0, 0, 700)]])
    for position in (3, 127, 150, 191, 256, 300, 512, 699):
        alone = compute([[(0, 0, position)], [(0, position, position + 1)]])
        beside = compute([[(0, 0, position)], [(1, 0, 600)], [(0, position, position + 1), (1, 600, 601)]])
        assert torch.equal(alone[0], whole[position])
        assert torch.equal(beside[0], whole[position])
    for first in (100, 190, 230, 400, 630):
        for count in (5, 16, 50):
            chunk = compute([[(0, 0, first)], [(0, first, first + count)]])
            assert torch.equal(chunk, whole[first : first + count])


def test_window_softcap_and_sinks() -> None:
    layer, query, keys, values = written(9)
    sinks = torch.randn(HEADS)
    torch.testing.assert_close(
        attend(layer, query, sliding_window=3, softcap=2.0, s_aux=sinks),
        naive_attention(query, keys, values, window=3, softcap=2.0, sinks=sinks),
    )


def test_an_unknown_argument_is_refused_by_name() -> None:
    layer, query, _, _ = written(3)
    with pytest.raises(UnsupportedModel, match="position_bias"):
        attend(layer, query, position_bias=torch.zeros(1))
    with pytest.raises(UnsupportedModel, match="not causal"):
        attend(layer, query, is_causal=False)
    with pytest.raises(UnsupportedModel, match="mask"):
        slot_attention(nn.Identity(), query, layer, layer, torch.zeros(3, 3))


def test_keys_changed_after_caching_are_refused() -> None:
    layer, query, keys, values = written(3)
    with pytest.raises(UnsupportedModel, match="after they were cached"):
        slot_attention(nn.Identity(), query, keys, values, None)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModel, match="something other than keys"):
        attend(layer, query[..., :4])
