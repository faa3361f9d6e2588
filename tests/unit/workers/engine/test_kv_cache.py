from __future__ import annotations

import pytest
import torch

from shared.sampling import SamplingParams
from workers.engine.batch import Batch, make_batch
from workers.engine.kv_cache import SlotCache, uses_onednn
from workers.engine.scheduler import Plan, Row
from workers.engine.sequence import Sequence


def batch_of(slot: int, start: int, count: int) -> Batch:
    sequence = Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), [0] * (start + count), 1)
    return make_batch(Plan((Row(sequence, slot, start, count),)), torch.device("cpu"))


def test_growing_keeps_what_was_written() -> None:
    cache = SlotCache(max_slots=8, max_len=400)
    keys, values = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 6)
    cache.begin(batch_of(0, 0, 3))
    layer, _ = cache.update(keys, values, 0)
    assert layer.keys.shape == (1, 2, 128, 4)
    cache.begin(batch_of(4, 300, 1))
    cache.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 6), 0)
    assert layer.keys.shape == (5, 2, 384, 4)
    assert torch.equal(layer.keys[0, :, :3], keys[0])
    assert torch.equal(layer.values[0, :, :3], values[0])
    assert torch.equal(layer.keys[4, :, 300], torch.ones(2, 4))


def test_never_grows_past_its_bounds() -> None:
    cache = SlotCache(max_slots=3, max_len=200)
    cache.begin(batch_of(2, 199, 1))
    layer, _ = cache.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4), 0)
    assert layer.keys.shape == (3, 2, 256, 4)
    with pytest.raises(AssertionError):
        cache.begin(batch_of(3, 0, 1))


def test_reads_all_that_is_allocated_only_where_a_part_would_be_copied() -> None:
    cache = SlotCache(max_slots=1, max_len=256)
    cache.begin(batch_of(0, 255, 1))
    plain, _ = cache.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4), 0)
    half, _ = cache.update(torch.ones(1, 2, 1, 4).bfloat16(), torch.ones(1, 2, 1, 4).bfloat16(), 1)
    assert plain.readable(192) == 192
    assert half.readable(192) == (256 if uses_onednn(half.keys) else 192)
    assert half.readable(112) == 112
