"""Backoff: how long a part that died waits for its next start."""

from __future__ import annotations

FIRST_S = 0.1
LAST_S = 10.0
#: A part that lived this long was well: its next death is a first one again.
HEALTHY_S = 30.0


class Backoff:
    """Doubles from FIRST_S to LAST_S."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def wait_s(self, lived_s: float) -> float:
        """Seconds to wait after a life of `lived_s`."""
        if lived_s >= HEALTHY_S:
            self._next_s = FIRST_S
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, LAST_S)
        return wait_s
