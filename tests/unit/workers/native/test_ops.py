from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from workers.native.ops import (
    HeadNorms,
    HeadShape,
    RMSNorm,
    Rotation,
    SiluGate,
    SlotAttention,
    native_library,
)

pytestmark = pytest.mark.skipif(native_library() is None, reason="no C compiler here")

DTYPES = [torch.float32, torch.bfloat16]
#: Relative to values around one.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}
SHAPES = [
    HeadShape(9, 3, 64),
    HeadShape(4, 4, 16),
    HeadShape(6, 1, 80),
    HeadShape(16, 2, 128),
    HeadShape(4, 4, 64),
    HeadShape(40, 1, 96),
    HeadShape(6, 2, 160),
    HeadShape(3, 1, 256),
    HeadShape(3, 1, 32),
]
LENGTH = 256
#: First token, number of tokens, slot index, first position: two decoding rows and two chunks.
ROWS = [(0, 1, 3, 0), (1, 1, 0, LENGTH - 1), (2, 40, 1, 100), (42, 3, 2, 0)]


def draw(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def make_cache(shape: HeadShape, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = (draw(4, shape.num_kv_heads, LENGTH, shape.dim, dtype=dtype, seed=n) for n in (1, 2))
    return keys, values


def attend(
    queries: torch.Tensor,
    cache: tuple[torch.Tensor, torch.Tensor],
    shape: HeadShape,
    rows: list[tuple[int, int, int, int]],
    window: int | None,
) -> torch.Tensor:
    """Attend with queries [tokens, heads, dim]."""
    mixed = torch.full_like(queries, float("nan"))
    operation = SlotAttention(shape, queries.dtype, shape.dim**-0.5, window)
    operation(queries.transpose(0, 1), cache, torch.tensor(rows), mixed)
    return mixed


def reference(
    queries: torch.Tensor, cache: tuple[torch.Tensor, torch.Tensor], shape: HeadShape, window: int | None
) -> torch.Tensor:
    """Textbook attention in float64, query by query."""
    mixed = []
    for first, count, slot_index, position in ROWS:
        for index in range(count):
            seen = slice(max(0, position + index + 1 - (window or LENGTH)), position + index + 1)
            keys, values = (
                part[slot_index, :, seen].double().repeat_interleave(shape.num_heads // shape.num_kv_heads, 0)
                for part in cache
            )
            scores = (keys @ queries[first + index].double()[:, :, None])[:, :, 0] * shape.dim**-0.5
            mixed.append((scores.softmax(-1)[:, None] @ values)[:, 0])
    return torch.stack(mixed)


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("window", [None, 37])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_is_a_softmax_over_visible_keys(
    shape: HeadShape, dtype: torch.dtype, window: int | None
) -> None:
    cache, queries = make_cache(shape, dtype), draw(45, shape.num_heads, shape.dim, dtype=dtype)
    mixed = attend(queries, cache, shape, ROWS, window)
    expected = reference(queries, cache, shape, window)
    assert torch.allclose(mixed.double(), expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("window", [None, 37])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_query_gives_the_same_result_alone_and_in_any_chunk(
    shape: HeadShape, dtype: torch.dtype, window: int | None
) -> None:
    cache, queries = make_cache(shape, dtype), draw(45, shape.num_heads, shape.dim, dtype=dtype)
    together = attend(queries, cache, shape, ROWS, window)
    for index in (0, 7, 39):
        alone = attend(queries[2 + index : 3 + index], cache, shape, [(0, 1, 1, 100 + index)], window)
        assert torch.equal(alone[0], together[2 + index])
    chunks = attend(queries[2:42], cache, shape, [(0, 11, 1, 100), (11, 29, 1, 111)], window)
    assert torch.equal(chunks, together[2:42])


@pytest.mark.parametrize("dtype", DTYPES)
def test_number_of_threads_changes_nothing(dtype: torch.dtype) -> None:
    shape, threads = SHAPES[0], torch.get_num_threads()
    cache, queries = make_cache(shape, dtype), draw(45, shape.num_heads, shape.dim, dtype=dtype)
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(attend(queries, cache, shape, ROWS, None))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cache_contents_beyond_a_sequence_change_nothing(shape: HeadShape, dtype: torch.dtype) -> None:
    cache, queries = make_cache(shape, dtype), draw(45, shape.num_heads, shape.dim, dtype=dtype)
    expected = attend(queries, cache, shape, ROWS, None)
    for part in cache:
        for _, count, slot_index, position in ROWS:
            part[slot_index, :, position + count :] = float("nan")
    assert torch.equal(attend(queries, cache, shape, ROWS, None), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_far_apart_neither_overflow_nor_vanish(dtype: torch.dtype) -> None:
    shape = HeadShape(1, 1, 16)
    keys, values = (torch.zeros(1, 1, 32, 16, dtype=dtype) for _ in range(2))
    keys[0, 0, 3], values[0, 0, 3] = 300, 2
    mixed = attend(torch.full((1, 1, 16), 8, dtype=dtype), (keys, values), shape, [(0, 1, 0, 20)], None)
    assert torch.equal(mixed, torch.full((1, 1, 16), 2, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_of_a_sum_matches_the_model(dtype: torch.dtype) -> None:
    states, added, weight = (
        draw(*size, dtype=dtype, seed=n) for n, size in enumerate([(5, 96), (5, 96), (96,)])
    )
    norm = LlamaRMSNorm(96, eps=1e-5)
    norm.weight = torch.nn.Parameter(weight)
    total, normed = states + added, torch.empty_like(states)
    RMSNorm(weight, 1e-5)(states, added, normed)
    assert torch.equal(states, total)
    assert torch.allclose(normed.float(), norm(total).float(), rtol=TOLERANCE[dtype], atol=1e-6)
    RMSNorm(weight, 1e-5)(states, None, normed)
    assert torch.equal(states, total)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gate_is_silu_times_the_up_projection(dtype: torch.dtype) -> None:
    gated = 4 * draw(7, 2 * 48, dtype=dtype)
    gated[0, :4] = torch.tensor([-200.0, 200.0, 0.0, -88.0])
    product = torch.empty(7, 48, dtype=dtype)
    SiluGate(48, dtype)(gated, product)
    expected = functional.silu(gated[:, :48]) * gated[:, 48:]
    assert torch.allclose(product.float(), expected.float(), rtol=TOLERANCE[dtype], atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_nan(dtype: torch.dtype) -> None:
    gated = torch.ones(1, 2 * 16, dtype=dtype)
    gated[0, 3], gated[0, 20] = float("nan"), float("inf")
    product = torch.empty(1, 16, dtype=dtype)
    SiluGate(16, dtype)(gated, product)
    assert product[0].isnan().tolist() == [index == 3 for index in range(16)]
    assert product[0, 4].isposinf()


@pytest.mark.parametrize("has_norms", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_rotation_matches_the_model_and_is_stored(dtype: torch.dtype, has_norms: bool) -> None:
    shape, num, first = HeadShape(6, 2, 32), 5, 2
    joined = draw(num + first, 10 * 32, dtype=dtype)
    angle = draw(num + first, 32, dtype=torch.float32, seed=3)
    angles = angle.cos().to(dtype), angle.sin().to(dtype)
    norms = HeadNorms(draw(32, dtype=dtype, seed=4), draw(32, dtype=dtype, seed=5), 1e-6)
    queries = torch.zeros(num + first, 6 * 32, dtype=dtype)
    keys, values = (torch.zeros(4, 2, 64, 32, dtype=dtype) for _ in range(2))
    slot_indices, positions = torch.tensor([3, 0, 0, 0, 2]), torch.tensor([63, 5, 6, 7, 0])
    rotate = Rotation(shape, dtype, norms if has_norms else None)
    rotate(joined, angles, queries, (keys, values), first, slot_indices, positions)

    heads = joined.view(1, -1, 10, 32).transpose(1, 2)
    own_queries, own_keys = heads[:, :6], heads[:, 6:8]
    if has_norms:
        own_queries, own_keys = normed(own_queries, norms.query), normed(own_keys, norms.key)
    rotated = apply_rotary_pos_emb(own_queries, own_keys, angles[0][None], angles[1][None])
    # Both round alike where there is no sum. In float32 two operations may be fused.
    tolerance = 0 if dtype == torch.bfloat16 and not has_norms else TOLERANCE[dtype]
    found = queries.view(-1, 6, 32).transpose(0, 1)[:, first:]
    assert torch.allclose(found.float(), rotated[0][0, :, first:].float(), rtol=tolerance, atol=tolerance)
    stored = keys[slot_indices, :, positions].transpose(0, 1)
    assert torch.allclose(stored.float(), rotated[1][0, :, first:].float(), rtol=tolerance, atol=tolerance)
    assert torch.equal(values[slot_indices, :, positions].transpose(0, 1), heads[0, 8:, first:])
    assert not queries[:first].any()
    assert keys.count_nonzero() == values.count_nonzero() == num * 2 * 32


def normed(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    norm = LlamaRMSNorm(len(weight), eps=1e-6)
    norm.weight = torch.nn.Parameter(weight)
    result: torch.Tensor = norm(states)
    return result.detach()
