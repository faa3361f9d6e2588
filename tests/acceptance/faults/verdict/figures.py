"""Figures: what a run of chaos tells of the goals in numbers, goal beside figure.

R6 (fail points) and R8 (poison) are tests of their own; R9 to R11 are about bad input and slow readers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.acceptance.faults.verdict.checker import Violation
from tests.acceptance.faults.verdict.history import History

#: What a zombie's write that was taken would show as.
_WRITTEN = ("doubled", "changed", "out of order", "two ends", "after the end")


@dataclass(frozen=True)
class Usage:
    """What one process has at the end."""

    name: str
    rss_bytes: int
    fds: int


class Figure(NamedTuple):
    """One row of the table."""

    name: str
    goal: str
    figure: str


def spread(values: Sequence[float]) -> str:
    """Median, 99th percentile and longest, in seconds; how many there are."""
    if not values:
        return "not measured"
    ordered = sorted(values)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, longest {ordered[-1]:.2f} s ({len(ordered)} readers)"


def figures(
    violations: Iterable[Violation],
    histories: Sequence[History],
    gaps: Mapping[str, Sequence[float]],
    faults: Mapping[str, int],
    deaths: Mapping[str, int],
    leftovers: Sequence[str],
    usage: Sequence[Usage],
    *,
    lease_s: float = 1.0,
) -> list[Figure]:
    """Those that a run measures. `gaps` and `faults` by kind of fault."""
    broken = Counter[str](violation.fault for violation in violations)
    stopped = sum(count for kind, count in faults.items() if kind in ("worker stop", "worker hole"))
    refused, unnamed = (
        sum(h.num_refused for h in histories),
        sum(h.num_without_retry_after for h in histories),
    )
    return [
        Figure("R1 promises broken, of any kind", "0", str(broken.total())),
        Figure(
            f"R2 next new token, a worker's host lost (lease {lease_s:g} s here, 3 s by default)",
            "p50 4 s, p99 10 s",
            spread(gaps.get("worker host lost", ())),
        ),
        Figure("R2 the same, a supervised worker killed", "p50 2 s", spread(gaps.get("worker kill", ()))),
        Figure(
            "R3 the same, an API replica killed",
            "1 s from its reconnection",
            spread(gaps.get("api kill", ())),
        ),
        Figure(
            "R4 the same, Redis killed, back after up to 1.5 s",
            "5 s from there",
            spread(gaps.get("redis kill", ())),
        ),
        Figure("R12 the same, a worker drained", "2 s", spread(gaps.get("worker term", ()))),
        Figure("R5 processes killed", "1000 a release", str(sum(deaths.values()))),
        Figure(
            f"R7 zombies' writes taken ({stopped} workers stopped or cut off)",
            "0",
            str(sum(broken[fault] for fault in _WRITTEN)),
        ),
        Figure(
            "R4, R14 accepted jobs that vanished or never ended",
            "0",
            str(broken["vanished"] + broken["no end"]),
        ),
        Figure("R14 refusals without Retry-After", "0", f"{unnamed} of {refused}"),
        Figure("R13 keys, leases, readers left over", "0", str(len(leftovers))),
        *(
            Figure(f"R13 {one.name} at the end", "flat", f"{one.rss_bytes / 2**20:.0f} MiB, {one.fds} fds")
            for one in usage
        ),
    ]
