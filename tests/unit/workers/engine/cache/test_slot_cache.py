from __future__ import annotations

import pytest
import torch

from shared.domain.sampling import SamplingParams
from workers.engine.cache import slot_cache as kv_cache
from workers.engine.cache.slot_cache import LayerCache, SlotCache, uses_onednn
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence

CPU = torch.device("cpu")


class Cache:
    """One layer of a cache. A token's keys and values are all equal to its mark."""

    def __init__(self, budget: KVBudget) -> None:
        self.cache = SlotCache(budget)
        self.layer: LayerCache | None = None

    def write(
        self, slot: int, start: int, marks: list[float], *, freed: tuple[int, ...] = (), dtype: torch.dtype
    ) -> LayerCache:
        end = start + len(marks)
        sequence = Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), [0] * end, 1)
        self.cache.begin(Plan((Row(sequence, slot, start, len(marks)),), freed), CPU)
        states = torch.tensor(marks, dtype=dtype)[None, None, :, None].expand(1, 2, -1, 4)
        self.layer, _ = self.cache.update(states, states[..., :3], 0)
        return self.layer

    def put(self, slot: int, start: int, *marks: float, freed: tuple[int, ...] = ()) -> LayerCache:
        return self.write(slot, start, list(marks), freed=freed, dtype=torch.float32)

    def shapes(self) -> dict[int, tuple[int, int]]:
        """Number of slots and length of each shelf."""
        assert self.layer is not None
        return {name: (s.keys.shape[0], s.keys.shape[2]) for name, s in self.layer.shelves.items()}


def test_a_shelf_grows_and_keeps_its_contents() -> None:
    subject = Cache(KVBudget(2000))
    subject.put(0, 0, 1, 2, 3)
    assert subject.shapes() == {512: (1, 512)}
    subject.put(1, 299, 7)
    assert subject.shapes() == {512: (2, 512)}
    layer = subject.put(2, 0, 9)
    assert subject.shapes() == {512: (4, 512)}
    keys, values = layer.shelves[512].keys, layer.shelves[512].values
    assert keys[0, 1, :4, 0].tolist() == [1, 2, 3, 0]
    assert values[1, 1, 298:301, 2].tolist() == [0, 7, 0]
    assert keys[2, 0, 0].tolist() == [9, 9, 9, 9]


def test_with_a_bounded_budget_slots_do_not_move() -> None:
    subject = Cache(KVBudget(512, max_tokens=8 * 512))
    layer = subject.put(0, 0, 1, 2, 3)
    address, generation = layer.shelves[512].keys.data_ptr(), subject.cache.generation
    for slot in range(1, 8):
        subject.put(slot, slot, slot)
    assert subject.shapes() == {512: (8, 512)}
    assert (layer.shelves[512].keys.data_ptr(), subject.cache.generation) == (address, generation)
    assert layer.shelves[512].values[:, 0, 2, 0].tolist() == [3, 0, 2, 0, 0, 0, 0, 0]


def test_a_sequence_that_outgrows_its_slot_moves_with_its_contents() -> None:
    subject = Cache(KVBudget(2000))
    subject.put(0, 0, 5, 6)
    subject.put(1, 0, *range(512))
    layer = subject.put(1, 512, -1)
    assert subject.shapes() == {512: (2, 512), 1024: (1, 1024)}
    assert layer.shelves[1024].keys[0, 1, :514, 0].tolist() == [*range(512), -1, 0]
    assert layer.shelves[512].values[0, 0, :3, 0].tolist() == [5, 6, 0]


def test_the_first_shelf_may_be_created_after_one_of_long_slots() -> None:
    subject = Cache(KVBudget(2000))
    subject.put(0, 599, 1)
    layer = subject.put(1, 299, 7)
    assert subject.shapes() == {512: (1, 512), 1024: (1, 1024)}
    assert layer.shelves[512].keys[0, 0, 298:301, 0].tolist() == [0, 7, 0]


def test_a_shelf_keeps_its_memory_when_sequences_leave_until_others_need_it() -> None:
    subject = Cache(KVBudget(2000, max_tokens=8 * 1024))
    for slot in range(5):
        subject.put(slot, 600, slot)
    assert subject.shapes() == {1024: (8, 1024)}
    subject.put(4, 601, 4, freed=(0, 1, 2))
    assert subject.shapes() == {1024: (8, 1024)}
    layer = subject.put(0, 0, 1)
    assert subject.shapes() == {512: (1, 512), 1024: (2, 1024)}
    assert sorted(layer.shelves[1024].keys[:, 0, 600, 0].tolist()) == [3, 4]
    subject.put(1, 1500, 1, freed=(3, 4))
    subject.put(2, 1500, 1)
    subject.put(3, 1500, 1)
    assert subject.shapes() == {512: (1, 512), 2048: (3, 2048)}


def test_a_shelf_of_long_slots_shrinks_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kv_cache, "_PATIENCE", 3)
    subject = Cache(KVBudget(2000))
    for slot in range(4):
        subject.put(slot, 600, slot)
        subject.put(4 + slot, 0, slot)
    subject.put(3, 601, 3, freed=(0, 1, 2, 5, 6, 7))
    for _ in range(2):
        subject.put(3, 601, 3)
    assert subject.shapes() == {512: (4, 512), 1024: (4, 1024)}
    layer = subject.put(3, 601, 3)
    assert subject.shapes() == {512: (4, 512), 1024: (1, 1024)}
    assert layer.shelves[1024].keys[0, 0, 600:602, 0].tolist() == [3, 3]
    for _ in range(5):
        subject.put(4, 1, 1, freed=(3,))
    assert subject.shapes() == {512: (4, 512)}


def test_the_longest_shelf_has_the_maximum_length() -> None:
    subject = Cache(KVBudget(700))
    subject.put(0, 699, 1)
    assert subject.shapes() == {768: (1, 768)}


def test_doubling_never_exceeds_the_budget() -> None:
    budget = KVBudget(1024, max_tokens=5 * 1024)
    subject = Cache(budget)
    for slot in range(5):
        subject.put(slot, 600, slot)
        assert subject.cache.num_tokens <= 5 * 1024
    assert subject.shapes() == {1024: (5, 1024)}
    for slot in range(3):
        freed = (slot,)
        layer = subject.put(slot, 0, 10 + slot, freed=freed)
    assert subject.cache.num_tokens <= 5 * 1024
    assert sorted(layer.shelves[1024].keys[:, 0, 600, 0].tolist())[-2:] == [3, 4]
    assert layer.shelves[512].keys[:3, 0, 0, 0].tolist() == [10, 11, 12]


def test_bytes_of_a_token_are_those_of_its_keys_and_values() -> None:
    subject = Cache(KVBudget(128))
    subject.put(0, 0, 1)
    assert sum(layer.token_bytes for layer in subject.cache.layer_caches) == 2 * (4 + 3) * 4


def test_reads_whole_slots_only_if_most_of_them_would_be_copied() -> None:
    plain = Cache(KVBudget(256)).put(0, 255, 1).shelves[256]
    half = Cache(KVBudget(256)).write(0, 255, [1], dtype=torch.bfloat16).shelves[256]
    assert plain.readable(208) == 208
    assert half.readable(208) == (256 if uses_onednn(half.keys) else 208)
    assert half.readable(192) == 192
