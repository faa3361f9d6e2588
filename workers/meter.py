"""Meter: how fast a counter rises."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 5.0


class Meter:
    """The rate of a counter over the last five seconds."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, int]] = deque()

    def rate(self, now: float, count: int) -> float:
        """Note that the counter stands at `count`; answers its rise a second."""
        self._readings.append((now, count))
        while len(self._readings) > 2 and self._readings[1][0] <= now - _WINDOW_S:
            self._readings.popleft()
        (then, first) = self._readings[0]
        return (count - first) / (now - then) if now > then else 0.0
