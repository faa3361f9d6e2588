"""Histogram: counts measured values by bucket. Cheap enough to use for every token."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds: from the first token of a small model to an answer of thousands of tokens.
LONG_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
)  # fmt: skip
#: Seconds, for parts of a step, which can be much shorter.
SHORT_S = (
    0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
)  # fmt: skip
#: Numbers of sequences or jobs.
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class HistogramReading:
    """A snapshot of a histogram."""

    #: Number of values in each bucket. The last bucket has no upper bound.
    counts: tuple[int, ...]
    #: Sum of all values.
    sum: float

    @classmethod
    def of(cls, buckets: tuple[float, ...], frequencies: Mapping[int, int]) -> HistogramReading:
        """Build a snapshot from whole numbers and how often each occurred."""
        counts = [0] * (len(buckets) + 1)
        for value, frequency in frequencies.items():
            counts[bisect_left(buckets, value)] += frequency
        return cls(tuple(counts), sum(value * frequency for value, frequency in frequencies.items()))


class Histogram:
    """One thread calls `observe`. Any thread may call `read`."""

    def __init__(self, buckets: tuple[float, ...]) -> None:
        #: Inclusive upper bounds, in ascending order.
        self.buckets = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self.buckets, value)] += 1
        self._sum += value

    def read(self) -> HistogramReading:
        """Return a snapshot."""
        return HistogramReading(tuple(self._counts), self._sum)
