"""StreamTimer: measures the time to first token and between tokens of one stream."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.domain.histogram import Histogram


class StreamTimer:
    """`sent` is called after each write of output. Tokens that go out together count as one."""

    def __init__(
        self,
        first: Histogram,
        between: Histogram,
        started_at: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._first = first
        self._between = between
        self._clock = clock
        self._last = started_at
        self._has_begun = False

    def sent(self) -> None:
        """Tokens were sent."""
        now = self._clock()
        (self._between if self._has_begun else self._first).observe(now - self._last)
        self._last, self._has_begun = now, True
