from __future__ import annotations

import pytest

from tests.acceptance.faults.verdict.growth import flatness, growth, table
from tests.acceptance.faults.verdict.resource_monitor import Reading, Readings, StoreReading, slope

MIB = 2**20


def steady(name: str, pid: int, since: float, until: float, mib_a_minute: float) -> list[Reading]:
    """A life that grows evenly."""
    return [
        Reading(at, name, pid, round((50 + mib_a_minute * (at - since) / 60) * MIB), 20)
        for at in (since + 10 * number for number in range(int((until - since) / 10)))
    ]


def test_a_slope_is_per_minute() -> None:
    assert slope([(0, 1.0), (60, 3.0), (120, 5.0)]) == pytest.approx(2.0)
    assert slope([(0, 1.0), (60, 3.0)]) is None


def test_each_life_is_for_itself() -> None:
    young = steady("worker-0", 1, 0, 300, 40.0)
    old = steady("worker-0", 2, 300, 3600, 0.5)
    (found,) = growth(Readings(3600, [*young, *old], [], [1.0]))
    assert (found.lives, found.longest_s) == (2, 3290)
    assert found.rss_slope == pytest.approx(0.5, abs=0.01) and found.fds_slope == 0


def test_what_a_process_does_at_first_says_nothing() -> None:
    young = steady("worker-0", 1, 0, 900, 40.0)
    (found,) = growth(Readings(3600, young, [], [1.0]))
    assert found.rss_slope is None
    assert flatness(Readings(3600, young, [], [1.0])) == []


def test_the_steepest_growth_is_reported_beside_that_of_redis() -> None:
    processes = [*steady("api-0", 1, 0, 3600, 0.2), *steady("up", 2, 0, 3600, 1.5)]
    store = [StoreReading(10.0 * number, 5 * MIB, 300) for number in range(360)]
    readings = Readings(3600, processes, store, [1.0])
    figures = {one.name: one.figure for one in flatness(readings)}
    assert list(figures.values()) == ["+1.500 MiB (up)", "+0.000 (api-0)", "+0.000 MiB", "+0.0"]
    assert "| 0 to 10 | 5.0, 5.0, 5.0 | 300, 300, 300 |" in list(table(readings))
