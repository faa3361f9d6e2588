from __future__ import annotations

from workers.engine.placement.shelf import Shelf


def test_the_lowest_free_index_is_used() -> None:
    shelf = Shelf()
    assert [shelf.take(slot) for slot in (7, 3, 5)] == [0, 1, 2]
    shelf.leave(3)
    assert shelf.extent == 3
    assert shelf.take(9) == 1


def test_compacting_moves_high_slots_into_gaps() -> None:
    shelf = Shelf()
    for slot in range(6):
        shelf.take(slot)
    for slot in (0, 1, 4):
        shelf.leave(slot)
    moves = shelf.compact()
    assert sorted(moves)[0][0] == 3 and [source for source, _ in sorted(moves)] == [3, 5]
    assert sorted(shelf.slot_indices.values()) == [0, 1, 2]
    assert shelf.slot_indices[2] == 2
    assert shelf.compact() == []
