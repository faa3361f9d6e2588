"""Garbage: which objects Python's collector looks at, and when."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """For imports: what they make lives on, and looking for garbage in it takes a sixth of their time.

    Nor is it looked at afterwards: torch and transformers make 400,000 objects, which the collector would go
    through again and again while a model is loaded (0.8 s of a start), and once more after that (0.3 s).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def freeze() -> None:
    """Have the collector take what is there now, modules and a model, for good.

    A collection of everything then takes less than a millisecond, not tenths of a second, and comes when what
    is new has grown by a quarter of itself. Else it waits until that is a quarter of what torch alone makes:
    as long hundreds of broken connections, which are cycles, would lie about.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # what the collector compares with is what it found last: now nothing
