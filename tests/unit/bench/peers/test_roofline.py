"""The bound: memory bandwidth with one stream, arithmetic with many."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.peers import roofline
from bench.peers.roofline import Cost, Rates
from tests.unit.bench.peers.small_model import SMALL

#: 100 GB/s and 1000 GFLOP/s.
RATES = Rates(2, 1e11, 1e12)


def test_cost_leaves_out_the_embedding_and_counts_keys_and_values(small_model: Path) -> None:
    cost = Cost.of(small_model)
    assert cost.head == SMALL.vocabulary * SMALL.hidden
    layer = SMALL.hidden * (2 * SMALL.hidden + 2 * SMALL.hidden // 2 + 3 * SMALL.feed_forward)
    assert 0 <= cost.body - SMALL.layers * layer < 10 * SMALL.hidden  # the norms
    assert cost.kv_bytes == 2 * 2 * SMALL.layers * SMALL.kv_heads * SMALL.hidden // SMALL.heads


def test_one_stream_is_bound_by_reading_and_many_by_arithmetic() -> None:
    cost = Cost(body=50_000_000, head=0, kv_bytes=0)
    assert cost.tokens_per_s(RATES, 1, 0, 1001) == pytest.approx(1000.0, rel=0.002)
    # 0.1 GFLOP per token; a prompt as long as the answer doubles the work.
    assert cost.tokens_per_s(RATES, 64, 0, 1001) == pytest.approx(10_000, rel=0.002)
    assert cost.tokens_per_s(RATES, 64, 1001, 1001) == pytest.approx(5_000, rel=0.002)


def test_keys_and_values_are_read_beside() -> None:
    # 1 MB per token and 100 tokens: as much as the weights.
    cost = Cost(body=50_000_000, head=0, kv_bytes=1_000_000)
    assert cost.tokens_per_s(RATES, 1, 50, 100) == pytest.approx(500.0, rel=0.02)


def test_rates_are_measured_where_the_cpu_has_bfloat16(
    small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline, "_READ_BYTES", 1 << 20)
    before = torch.get_num_threads()
    found = roofline.bounds(small_model, [1], [1, 8], 8, 8)
    assert torch.get_num_threads() == before
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        (bound,) = found
        assert bound.name.startswith("1 thread, ")
        assert 0 < bound.tokens_per_s[1] <= bound.tokens_per_s[8] <= 8 * bound.tokens_per_s[1]
    else:
        assert found == ()
