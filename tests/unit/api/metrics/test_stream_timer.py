from __future__ import annotations

from api.metrics.stream_timer import StreamTimer
from shared.domain.histogram import Histogram, HistogramReading


def test_the_first_output_and_what_lies_between_are_measured() -> None:
    times = iter([3.0, 3.5, 5.0])
    first, between = Histogram((10,)), Histogram((10,))
    timer = StreamTimer(first, between, 1.0, clock=lambda: next(times))
    for _ in range(3):
        timer.sent()
    assert first.read() == HistogramReading((1, 0), 2.0)
    assert between.read() == HistogramReading((2, 0), 2.0)
