from __future__ import annotations

import torch

from shared.domain.sampling import SamplingParams
from workers.engine.cache.paged_cache import PagedCache, PagedLayer
from workers.engine.cache.slot_cache import KVSpan
from workers.engine.placement.page_pool import PAGE
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence

CPU = torch.device("cpu")


class Cache:
    """One layer of a cache. A token's keys and values are all equal to its mark."""

    def __init__(self, max_tokens: int | None = None) -> None:
        self.cache = PagedCache(KVBudget(2000, max_tokens, page=PAGE))

    def put(self, slot: int, start: int, *marks: float, freed: tuple[int, ...] = ()) -> PagedLayer:
        end = start + len(marks)
        sequence = Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), [0] * end, 1)
        self.cache.begin(Plan((Row(sequence, slot, start, len(marks)),), freed), CPU)
        states = torch.tensor(marks, dtype=torch.float32)[None, None, :, None].expand(1, 2, -1, 4)
        layer, value = self.cache.update(states, states[..., :3], 0)
        assert layer is value
        return layer

    def held(self, slot: int, start: int, end: int) -> list[float]:
        ((keys, values),) = self.cache.copy_out(slot, start, end)
        assert (keys.shape, values.shape) == ((2, end - start, 4), (2, end - start, 3))
        assert keys[0, :, 0].tolist() == keys[1, :, 3].tolist() == values[1, :, 2].tolist()
        return list(keys[0, :, 0].tolist())


def test_contents_stay_when_pages_are_added() -> None:
    subject = Cache()
    subject.put(0, 0, 1, 2, 3)
    subject.put(1, 0, *range(PAGE))
    layer = subject.put(0, 3, *range(10, 10 + PAGE))
    assert layer.keys.shape == (4, PAGE, 2, 4)
    assert subject.held(0, 0, PAGE + 3) == [1, 2, 3, *range(10, 10 + PAGE)]
    assert subject.held(1, 250, 256) == [250, 251, 252, 253, 254, 255]
    assert subject.cache.num_tokens == 3 * PAGE


def test_a_bounded_cache_is_allocated_once_and_never_moves() -> None:
    subject = Cache(max_tokens=4 * PAGE + 7)
    layer = subject.put(0, 0, 1)
    address = layer.keys.data_ptr()
    assert (len(layer.keys), subject.cache.num_tokens) == (5, PAGE)
    subject.put(1, 600, 2)
    assert layer.keys.data_ptr() == address
    assert (len(layer.keys), subject.cache.num_tokens) == (5, 4 * PAGE)


def test_freed_pages_serve_the_next_slot_in_the_same_step() -> None:
    subject = Cache(max_tokens=2 * PAGE)
    subject.put(0, 300, 7)
    subject.put(1, 300, 8, freed=(0,))
    assert (subject.cache.num_tokens, subject.held(1, 300, 301)) == (2 * PAGE, [8])


def test_an_admitted_sequence_has_pages_before_it_has_a_row() -> None:
    subject = Cache()
    subject.put(0, 0, 1)
    waiting = Sequence("w", 0, SamplingParams(max_tokens=1, seed=0), [0] * 300, 300, slot=5)
    row = Row(Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), [0] * 2, 1), 0, 1, 1)
    subject.cache.begin(Plan((row,), admitted=(waiting,)), CPU)
    span: KVSpan = [(torch.full((2, 64, 4), 3.0), torch.full((2, 64, 3), 3.0))]
    subject.cache.copy_in(5, 64, span)
    assert subject.held(5, 64, 128) == [3] * 64


def test_a_row_has_pages_for_its_draft() -> None:
    subject = Cache()
    sequence = Sequence("r", 0, SamplingParams(max_tokens=9, seed=0), [0] * PAGE, PAGE)
    row = Row(sequence, 0, PAGE - 1, 3)
    batch = subject.cache.begin(Plan((row,), wants_all=True), CPU)
    assert (batch.max_keys, subject.cache.num_tokens) == (PAGE + 2, 2 * PAGE)


def test_spans_are_copied_across_the_borders_of_pages() -> None:
    subject = Cache()
    marks = [float(i) for i in range(PAGE + 100)]
    subject.put(0, 0, *marks)
    subject.put(1, 0, -1)
    subject.put(1, PAGE + 99, -2)
    span = subject.cache.copy_out(0, 200, 300)
    subject.cache.copy_in(1, 210, span)
    assert subject.held(1, 209, 311) == [0, *marks[200:300], 0]
    subject.put(0, 200, *[9.0] * 100)
    assert span[0][0][0, :, 0].tolist() == marks[200:300]


def test_bytes_of_a_token_are_those_of_its_keys_and_values() -> None:
    subject = Cache()
    layer = subject.put(0, 0, 1)
    assert subject.cache.layer_caches == [layer] and layer.token_bytes == 2 * (4 + 3) * 4
