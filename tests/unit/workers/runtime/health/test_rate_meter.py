from __future__ import annotations

from workers.runtime.health.rate_meter import RateMeter


def test_it_returns_the_rate_of_the_last_seconds() -> None:
    meter = RateMeter()
    assert meter.rate == 0
    meter.note(100.0, 0)
    meter.note(101.0, 10)
    meter.note(105.0, 10)
    assert meter.rate == 2
    meter.note(106.0, 10)
    assert meter.rate == 0
    meter.note(111.0, 60)
    assert meter.rate == 10
