"""How long to wait before starting a process that died again."""

from __future__ import annotations

FIRST_S = 0.1
LAST_S = 10.0
#: A process that ran this long was healthy, so the wait starts over.
HEALTHY_S = 30.0


class Backoff:
    """The wait doubles with each death, from FIRST_S to LAST_S."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def wait_s(self, lived_s: float) -> float:
        """Seconds to wait after the process ran for `lived_s`."""
        if lived_s >= HEALTHY_S:
            self._next_s = FIRST_S
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, LAST_S)
        return wait_s
