from __future__ import annotations

from workers.meter import Meter


def test_it_tells_the_rise_of_the_last_seconds() -> None:
    meter = Meter()
    assert meter.rate(0.0, 0) == 0
    assert meter.rate(1.0, 10) == 10
    for second in range(2, 12):
        meter.rate(float(second), 10)
    assert meter.rate(12.0, 10) == 0
    assert meter.rate(13.0, 60) == 10
