from __future__ import annotations

import gc

from shared.garbage import spare_what_lives


def _num_full_collections() -> int:
    return int(gc.get_stats()[2]["collections"])


def test_new_garbage_is_collected_however_much_lives() -> None:
    alive: list[list[object]] = [[] for _ in range(500_000)]
    try:
        spare_what_lives()
        before = _num_full_collections()
        new: list[list[object]] = [[] for _ in range(len(alive) // 5)]
        assert _num_full_collections() > before
        assert len(new) < len(alive) / 4
    finally:
        gc.unfreeze()
