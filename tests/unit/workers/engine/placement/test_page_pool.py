from __future__ import annotations

import pytest

from workers.engine.placement.page_pool import PAGE, SCRATCH, PagePool, Segment


def test_growing_slots_get_the_lowest_free_pages() -> None:
    pool = PagePool(8)
    pool.reach(0, 1)
    pool.reach(1, PAGE)
    pool.reach(0, PAGE + 1)
    pool.reach(1, 3)
    assert (pool.pages(0), pool.pages(1), pool.num_used) == ([1, 3], [2], 3)


def test_released_pages_are_reused() -> None:
    pool = PagePool(3)
    pool.reach(0, 2 * PAGE)
    pool.reach(1, 1)
    pool.release(0)
    pool.release(0)
    pool.reach(2, 2 * PAGE)
    assert (pool.pages(0), pool.pages(2), pool.num_used, pool.capacity) == ([], [1, 2], 3, 4)


def test_no_slot_gets_the_scratch_page_or_a_page_beyond_the_limit() -> None:
    pool = PagePool(2)
    pool.reach(0, 2 * PAGE)
    assert SCRATCH not in pool.pages(0)
    with pytest.raises(AssertionError, match="no free page"):
        pool.reach(0, 2 * PAGE + 1)


def test_without_a_bound_the_capacity_doubles() -> None:
    pool = PagePool(None)
    capacities = []
    for count in (1, 2, 5):
        pool.reach(0, count * PAGE)
        capacities.append(pool.capacity)
    assert (capacities, pool.pages(0)) == ([2, 4, 8], [1, 2, 3, 4, 5])


def test_cells_and_segments_follow_the_pages() -> None:
    pool = PagePool(None)
    for slot in (0, 1, 0):
        pool.reach(slot, len(pool.pages(slot)) * PAGE + 1)
    assert pool.pages(0) == [1, 3]
    assert pool.cells(0, PAGE - 1, PAGE + 2) == [2 * PAGE - 1, 3 * PAGE, 3 * PAGE + 1]
    assert list(pool.segments(0, PAGE - 1, PAGE + 2)) == [Segment(1, PAGE - 1, PAGE), Segment(3, 0, 2)]
    assert list(pool.segments(0, 64, 128)) == [Segment(1, 64, 128)]
