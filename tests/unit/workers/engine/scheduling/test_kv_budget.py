from __future__ import annotations

from workers.engine.scheduling.kv_budget import KVBudget


def test_charge_is_the_length_of_the_slot() -> None:
    budget = KVBudget(max_len=3000)
    assert [budget.charge(n) for n in (1, 512, 513, 1025, 2049, 3000)] == [512, 512, 1024, 2048, 3072, 3072]
    assert KVBudget(max_len=100).charge(3) == 128


def test_sequences_fit_if_their_charges_do() -> None:
    assert KVBudget(4096).fits(1 << 40)
    assert KVBudget(4096, max_tokens=1024).fits(1024)
    assert not KVBudget(4096, max_tokens=1024).fits(1025)


def test_longest_is_the_longest_slot_that_fits() -> None:
    assert KVBudget(3000).longest == 3000
    assert KVBudget(3000, max_tokens=3072).longest == 3000
    assert KVBudget(3000, max_tokens=3071).longest == 2048
    assert KVBudget(3000, max_tokens=511).longest == 0


def test_pages_are_charged_one_by_one() -> None:
    budget = KVBudget(2000, max_tokens=1100, page=256)
    assert [budget.charge(num) for num in (1, 256, 257, 2000)] == [256, 256, 512, 2048]
    assert budget.longest == 1024
    assert KVBudget(1000, max_tokens=1024, page=256).longest == 1000
    assert KVBudget(1000, max_tokens=255, page=256).longest == 0
