"""Throughput: how fast a model's workers got through jobs lately, and what that means for one that waits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import DecodeError

#: Seconds of one bucket of the record, and how many of them count (prelude.lua keeps the same).
BUCKET_S, NUM_BUCKETS = 30, 10


@dataclass(frozen=True, slots=True)
class Throughput:
    """Jobs that ended after they had run, in the last five minutes."""

    finished: int = 0
    #: Seconds from each one's first start to its end, together.
    running_s: float = 0.0

    @classmethod
    def decode(cls, record: Mapping[str, str], now_s: int) -> Throughput:
        """Read the hash `pace:<model>`. Raises DecodeError."""
        oldest = now_s // BUCKET_S - NUM_BUCKETS + 1
        totals = {"n": 0, "ms": 0}
        try:
            for name, value in record.items():
                bucket, _, what = name.partition(":")
                if int(bucket) >= oldest:
                    totals[what] += int(value)
        except (KeyError, ValueError) as error:
            raise DecodeError("pace", dict(record)) from error
        return cls(totals["n"], totals["ms"] / 1000)

    def jobs_per_s(self, slots: int) -> float | None:
        """How many jobs end in a second while `slots` are all busy; None when nothing was measured.

        By Little's law from the time that a job held its slot, so that minutes without work do not count.
        """
        if not self.finished or slots < 1:
            return None
        return slots * self.finished / max(self.running_s, 0.001)

    def eta_s(self, position: int, *, slots: int, free: int) -> int | None:
        """About when a job with `position` before it is started; None when it cannot be known."""
        rate = self.jobs_per_s(slots)
        if rate is None:
            return None
        return math.ceil(max(0, position + 1 - free) / rate)
