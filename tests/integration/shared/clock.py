"""Clock: a clock of the test's own."""

from __future__ import annotations


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
