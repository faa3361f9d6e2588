from __future__ import annotations

from api.metrics.stream_timer import StreamTimer, has_tokens
from api.streaming.cursor import Cursor
from api.streaming.updates import Update
from shared.domain.events import Started
from shared.domain.histogram import Histogram, HistogramReading
from tests.unit.api.streams import JOB_ID, output


def test_the_first_output_and_what_lies_between_are_measured() -> None:
    times = iter([3.0, 3.5, 5.0])
    first, between = Histogram((10,)), Histogram((10,))
    meter = StreamTimer(first, between, 1.0, clock=lambda: next(times))
    cursor = Cursor.start(JOB_ID, 1)
    token = Update(output(0, 0, "a"), cursor, 1)
    for news in ([Update(Started("w"), cursor, 0)], [], [token], [token, token], [token]):
        if has_tokens(news):
            meter.sent()
    assert first.read() == HistogramReading((1, 0), 2.0)
    assert between.read() == HistogramReading((2, 0), 2.0)
