"""Histogram: how often a measured value fell into which bucket. Cheap enough for once a token."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds, from a first token on a small model to an answer of thousands of them.
LONG_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
)  # fmt: skip
#: Seconds, for parts of a step: of the fastest a thousand fit into the first bucket of LONG_S.
SHORT_S = (
    0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
)  # fmt: skip
#: Sequences, jobs.
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class HistogramReading:
    """A histogram as it stood once: values per bucket (the last has no upper bound), and their sum."""

    counts: tuple[int, ...]
    sum: float

    @classmethod
    def of(cls, buckets: tuple[float, ...], frequencies: Mapping[int, int]) -> HistogramReading:
        """Of whole numbers and how often each was seen."""
        counts = [0] * (len(buckets) + 1)
        for value, frequency in frequencies.items():
            counts[bisect_left(buckets, value)] += frequency
        return cls(tuple(counts), sum(value * frequency for value, frequency in frequencies.items()))


class Histogram:
    """Counts up. One thread observes, any may read."""

    def __init__(self, buckets: tuple[float, ...]) -> None:
        #: Upper bounds, inclusive, rising.
        self.buckets = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Another value."""
        self._counts[bisect_left(self.buckets, value)] += 1
        self._sum += value

    def read(self) -> HistogramReading:
        """As it stands."""
        return HistogramReading(tuple(self._counts), self._sum)
