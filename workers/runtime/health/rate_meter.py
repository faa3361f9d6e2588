"""RateMeter: measures how fast a counter increases."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 5.0


class RateMeter:
    """The rate of a counter over the last five seconds. One thread calls `note`. Any thread may read `rate`."""

    def __init__(self) -> None:
        self._readings = deque[tuple[float, int]]([(0.0, 0)])

    def note(self, now: float, count: int) -> None:
        """Note that the counter is at `count` now."""
        self._readings.append((now, count))
        while len(self._readings) > 2 and self._readings[1][0] <= now - _WINDOW_S:
            self._readings.popleft()

    @property
    def rate(self) -> float:
        """The increase per second."""
        (then, first), (now, last) = self._readings[0], self._readings[-1]
        return (last - first) / (now - then) if now > then else 0.0
