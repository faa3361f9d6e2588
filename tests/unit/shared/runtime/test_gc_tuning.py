from __future__ import annotations

import gc

from shared.runtime.gc_tuning import freeze, gc_paused


def _num_full_collections() -> int:
    return int(gc.get_stats()[2]["collections"])


def test_new_garbage_is_collected_however_much_lives() -> None:
    alive: list[list[object]] = [[] for _ in range(500_000)]
    try:
        freeze()
        before = _num_full_collections()
        new: list[list[object]] = [[] for _ in range(len(alive) // 5)]
        assert _num_full_collections() > before
        assert len(new) < len(alive) / 4
    finally:
        gc.unfreeze()


def test_what_imports_made_is_not_looked_at_again() -> None:
    try:
        with gc_paused():
            made: list[list[object]] = [[] for _ in range(1000)]
            assert not gc.isenabled()
        assert gc.isenabled()
        assert not {id(each) for each in made} & {id(each) for each in gc.get_objects()}
    finally:
        gc.unfreeze()
