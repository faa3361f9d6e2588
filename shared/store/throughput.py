"""Throughput: how fast a model's workers finished jobs recently, and how long a queued job will wait."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import DecodeError

#: Length of a bucket in seconds, and the number of buckets. prelude.lua has the same values.
BUCKET_S, NUM_BUCKETS = 30, 10


@dataclass(frozen=True, slots=True)
class Throughput:
    """Jobs that ran and ended in the last five minutes."""

    finished: int = 0
    #: Total of the seconds from each job's first start to its end.
    running_s: float = 0.0

    @classmethod
    def decode(cls, record: Mapping[str, str], now_s: int) -> Throughput:
        """Decode the hash `throughput:<model>`. Raises DecodeError."""
        oldest = now_s // BUCKET_S - NUM_BUCKETS + 1
        totals = {"n": 0, "ms": 0}
        try:
            for name, value in record.items():
                bucket, _, field = name.partition(":")
                if int(bucket) >= oldest:
                    totals[field] += int(value)
        except (KeyError, ValueError) as error:
            raise DecodeError("throughput", dict(record)) from error
        return cls(totals["n"], totals["ms"] / 1000)

    def jobs_per_s(self, slots: int) -> float | None:
        """Return how many jobs end in a second while all `slots` are busy. None: nothing was measured.

        Computed by Little's law from how long jobs ran, so that idle time does not count.
        """
        if not self.finished or slots < 1:
            return None
        return slots * self.finished / max(self.running_s, 0.001)

    def eta_s(self, position: int, *, slots: int, free: int) -> int | None:
        """Estimate in how many seconds a job with `position` jobs before it starts. None: nothing was measured."""
        rate = self.jobs_per_s(slots)
        if rate is None:
            return None
        return math.ceil(max(0, position + 1 - free) / rate)
