"""How long to wait before starting a process that died again."""

from __future__ import annotations

FIRST_S = 0.1
#: A process that was ready for this long did its work. Whatever ended it then is new, so the wait starts over.
SERVED_S = 2.0
#: The longest wait for a process that was ready, but not for that long: clients miss it.
LAST_READY_S = 1.0
#: The longest wait for a process that never was ready: starting it more often would only cost the others CPU time.
LAST_S = 10.0


class Backoff:
    """The wait doubles with each death, from FIRST_S on."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def wait_s(self, ready_s: float | None) -> float:
        """Seconds to wait after the process was ready for `ready_s`; None: it never was."""
        if ready_s is not None:
            self._next_s = FIRST_S if ready_s >= SERVED_S else min(self._next_s, LAST_READY_S)
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, LAST_S)
        return wait_s
