"""Growth: what the readings of a gauge say, each life of a process for itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.acceptance.faults.verdict.figures import Figure
from tests.acceptance.faults.verdict.resource_monitor import Reading, Readings, slope

#: What a process does at first says nothing (goal R13): of a run, and of each life in it.
WARM_UP_S = 600.0
#: A slope is told of lives that were read at least so long after that.
LEAST_S = 600.0
#: Of memory, a minute.
GOAL_MIB = 1.0
_MIB = 2**20
#: Seconds that a row about Redis tells of.
_ROW_S = 600


@dataclass(frozen=True)
class Growth:
    """Of all lives under one name. Peaks are of the first and the second half of the run."""

    name: str
    lives: int
    longest_s: float
    #: MiB and descriptors a minute, of the longest life after its warm-up; None where it was too short.
    rss_slope: float | None
    fds_slope: float | None
    rss_peaks: tuple[float, float]
    fds_peaks: tuple[int, int]

    def __str__(self) -> str:
        (rss, later_rss), (fds, later_fds) = self.rss_peaks, self.fds_peaks
        grows = "too short" if self.rss_slope is None else f"{self.rss_slope:+.3f} MiB"
        fds_grow = "too short" if self.fds_slope is None else f"{self.fds_slope:+.3f}"
        return (
            f"| {self.name} | {self.lives} | {self.longest_s / 60:.1f} | {grows} "
            f"| {rss:.0f}, {later_rss:.0f} MiB | {fds_grow} | {fds}, {later_fds} |"
        )


def growth(readings: Readings) -> list[Growth]:
    """By name, in order."""
    names = sorted({one.name for one in readings.processes})
    return [
        _of(name, [one for one in readings.processes if one.name == name], readings.seconds) for name in names
    ]


def _of(name: str, some: Sequence[Reading], seconds: float) -> Growth:
    lives = [[one for one in some if one.pid == pid] for pid in {one.pid for one in some}]
    longest = max(lives, key=_length)
    warm = [one for one in longest if one.at > max(longest[0].at + WARM_UP_S, WARM_UP_S)]
    is_long = bool(warm) and _length(warm) >= LEAST_S
    halves = [one for one in some if one.at <= seconds / 2], [one for one in some if one.at > seconds / 2]
    first, second = ([*half] or list(some) for half in halves)
    return Growth(
        name=name,
        lives=len(lives),
        longest_s=_length(longest),
        rss_slope=slope([(one.at, one.rss_bytes / _MIB) for one in warm]) if is_long else None,
        fds_slope=slope([(one.at, one.fds) for one in warm]) if is_long else None,
        rss_peaks=(_rss_peak(first), _rss_peak(second)),
        fds_peaks=(max(one.fds for one in first), max(one.fds for one in second)),
    )


def _length(life: Sequence[Reading]) -> float:
    return life[-1].at - life[0].at


def _rss_peak(some: Sequence[Reading]) -> float:
    return max(one.rss_bytes for one in some) / _MIB


def store_slopes(readings: Readings) -> tuple[float | None, float | None]:
    """MiB and keys a minute of Redis's data after the warm-up, over all its lives."""
    warm = [one for one in readings.store if one.at > WARM_UP_S]
    return slope([(one.at, one.used_bytes / _MIB) for one in warm]), slope(
        [(one.at, one.keys) for one in warm]
    )


def flatness(readings: Readings) -> list[Figure]:
    """Goal R13, of the lives that were long enough; nothing where none was."""
    long_ones = [one for one in growth(readings) if one.rss_slope is not None]
    if not long_ones:
        return []
    names = ", ".join(one.name for one in long_ones)
    steepest = max(long_ones, key=lambda one: one.rss_slope or 0.0)
    opener = max(long_ones, key=lambda one: one.fds_slope or 0.0)
    mib, num_keys = store_slopes(readings)
    return [
        Figure(
            f"R13 RSS a minute after minute 10, steepest of what lived on ({names})",
            f"< {GOAL_MIB:g} MiB",
            f"{steepest.rss_slope:+.3f} MiB ({steepest.name})",
        ),
        Figure("R13 descriptors a minute, steepest", "flat", f"{opener.fds_slope:+.3f} ({opener.name})"),
        Figure("R13 Redis's data a minute", "flat", "not measured" if mib is None else f"{mib:+.3f} MiB"),
        Figure(
            "R13 Redis's keys a minute", "flat", "not measured" if num_keys is None else f"{num_keys:+.1f}"
        ),
    ]


def table(readings: Readings) -> Iterator[str]:
    """For a report."""
    yield "| process | lives | longest, min | RSS a minute | highest RSS, by half | fds a minute | by half |"
    yield "|---|---|---|---|---|---|---|"
    for one in growth(readings):
        yield str(one)
    yield ""
    yield "| minutes | Redis's data, MiB: least, median, most | keys |"
    yield "|---|---|---|"
    for first in range(0, int(readings.seconds), _ROW_S):
        some = [one for one in readings.store if first <= one.at < first + _ROW_S]
        if some:
            used, num_keys = [one.used_bytes / _MIB for one in some], [one.keys for one in some]
            minutes = f"{first // 60} to {(first + _ROW_S) // 60}"
            yield f"| {minutes} | {_range(used, '.1f')} | {_range(num_keys, 'd')} |"


def _range(values: Sequence[float], form: str) -> str:
    ordered = sorted(values)
    return ", ".join(format(each, form) for each in (ordered[0], ordered[len(ordered) // 2], ordered[-1]))
