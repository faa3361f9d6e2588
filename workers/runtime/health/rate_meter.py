"""RateMeter: how fast a counter rises."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 5.0


class RateMeter:
    """The rate of a counter over the last five seconds. One thread notes, any may read."""

    def __init__(self) -> None:
        self._readings = deque[tuple[float, int]]([(0.0, 0)])

    def note(self, now: float, count: int) -> None:
        """The counter stands at `count`."""
        self._readings.append((now, count))
        while len(self._readings) > 2 and self._readings[1][0] <= now - _WINDOW_S:
            self._readings.popleft()

    @property
    def rate(self) -> float:
        """Its rise a second."""
        (then, first), (now, last) = self._readings[0], self._readings[-1]
        return (last - first) / (now - then) if now > then else 0.0
